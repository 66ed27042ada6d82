package dev.edgefiqa.core

/** A recursive-descent reader of one JSON document. */
internal class JsonReader(
    private val text: String,
) {
    private var at = 0
    private var depth = 0

    fun readDocument(): Json {
        skipSpace()
        val value = readValue()
        skipSpace()
        if (at < text.length) fail("text after the document")
        return value
    }

    private fun readValue(): Json =
        when (val char = peek()) {
            '{' -> nested { readObject() }
            '[' -> nested { readArray() }
            '"' -> Json.Str(readString())
            't' -> readWord("true", Json.Bool(true))
            'f' -> readWord("false", Json.Bool(false))
            'n' -> readWord("null", Json.Null)
            else -> if (char == '-' || char in '0'..'9') readNumber() else fail("unexpected '$char'")
        }

    private fun nested(read: () -> Json): Json {
        if (++depth > MAX_DEPTH) fail("deeper than $MAX_DEPTH levels")
        return read().also { depth-- }
    }

    private fun readObject(): Json {
        val members = LinkedHashMap<String, Json>()
        readItems('}') {
            if (peek() != '"') fail("a key was expected")
            val key = readString()
            skipSpace()
            expect(':')
            skipSpace()
            if (members.put(key, readValue()) != null) fail("the key \"$key\" appears twice")
        }
        return Json.Obj(members)
    }

    private fun readArray(): Json {
        val items = ArrayList<Json>()
        readItems(']') { items += readValue() }
        return Json.Arr(items)
    }

    private fun readItems(
        end: Char,
        readItem: () -> Unit,
    ) {
        at++
        skipSpace()
        if (peek() == end) {
            at++
            return
        }
        while (true) {
            skipSpace()
            readItem()
            skipSpace()
            if (peek() == end) break
            expect(',')
        }
        at++
    }

    private fun readString(): String {
        at++
        val value = StringBuilder()
        while (true) {
            val char = peek()
            at++
            when {
                char == '"' -> return value.toString()
                char < ' ' -> fail("a control character in a string")
                char == '\\' -> value.append(readEscape())
                else -> value.append(char)
            }
        }
    }

    private fun readEscape(): Char {
        val char = peek()
        at++
        return when (char) {
            '"', '\\', '/' -> char
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> readCodeUnit()
            else -> fail("unknown escape '\\$char'")
        }
    }

    private fun readCodeUnit(): Char {
        if (at + 4 > text.length) fail("the document ends inside a \\u escape")
        val digits = text.substring(at, at + 4)
        if (!digits.all { it in HEX }) fail("'$digits' is not hexadecimal")
        at += 4
        return digits.toInt(16).toChar()
    }

    private fun readNumber(): Json {
        val match = NUMBER.matchAt(text, at) ?: fail("not a number")
        at += match.value.length
        return Json.Num(match.value)
    }

    private fun readWord(
        word: String,
        value: Json,
    ): Json {
        if (!text.startsWith(word, at)) fail("'$word' was expected")
        at += word.length
        return value
    }

    private fun expect(char: Char) {
        if (peek() != char) fail("'$char' was expected, not '${peek()}'")
        at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the document ends too early")

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun fail(what: String): Nothing {
        val line = 1 + text.take(at).count { it == '\n' }
        throw ScorerException("this is not valid JSON ($what)", "line $line, character $at")
    }

    private companion object {
        const val MAX_DEPTH = 100
        const val HEX = "0123456789abcdefABCDEF"
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}
