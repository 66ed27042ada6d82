package dev.edgefiqa.core

/** A JSON value; numbers keep their digits, so that nanoseconds survive. */
sealed interface Json {
    /** `null`. */
    data object Null : Json

    /** `true` or `false`. */
    data class Bool(
        val value: Boolean,
    ) : Json

    /** A number, as its JSON text. */
    data class Num(
        val text: String,
    ) : Json

    /** A string. */
    data class Str(
        val value: String,
    ) : Json

    /** An array. */
    data class Arr(
        val items: List<Json>,
    ) : Json

    /** An object; the order of its members is kept. */
    data class Obj(
        val members: Map<String, Json>,
    ) : Json

    companion object {
        /**
         * Reads one JSON document (RFC 8259; duplicate keys and trailing text are faults).
         *
         * @throws ScorerException with the position of the fault
         */
        fun parse(text: String): Json = JsonReader(text).readDocument()

        /** Converts Kotlin values: null, Boolean, finite numbers, String, List, Map, Json. */
        fun of(value: Any?): Json =
            when (value) {
                null -> Null
                is Json -> value
                is Boolean -> Bool(value)
                is Int, is Long -> Num(value.toString())
                is Double -> if (value.isFinite()) Num(value.toString()) else throw notFinite(value)
                is Float -> of(value.toDouble())
                is String -> Str(value)
                is Iterable<*> -> Arr(value.map(::of))
                is LongArray -> Arr(value.map(::of))
                is Map<*, *> -> Obj(value.entries.associate { (key, item) -> key as String to of(item) })
                else -> throw ScorerException("there is no JSON for this type", value::class.java.name)
            }

        private fun notFinite(value: Double) =
            ScorerException("JSON has no such number", value, "finite numbers", "write null and an error record")
    }
}

/** Returns the document with two spaces of indentation; arrays of numbers stay on one line. */
fun Json.toText(): String = buildString { write(this@toText, "") }

private fun StringBuilder.write(
    value: Json,
    indent: String,
) {
    when (value) {
        Json.Null -> append("null")
        is Json.Bool -> append(value.value)
        is Json.Num -> append(value.text)
        is Json.Str -> writeString(value.value)
        is Json.Arr -> writeArray(value.items, indent)
        is Json.Obj -> writeObject(value.members, indent)
    }
}

private fun StringBuilder.writeArray(
    items: List<Json>,
    indent: String,
) {
    val flat = items.all { it !is Json.Arr && it !is Json.Obj }
    append('[')
    items.forEachIndexed { index, item ->
        if (index > 0) append(if (flat) ", " else ",")
        if (!flat) append('\n').append(indent).append("  ")
        write(item, "$indent  ")
    }
    if (!flat) append('\n').append(indent)
    append(']')
}

private fun StringBuilder.writeObject(
    members: Map<String, Json>,
    indent: String,
) {
    append('{')
    members.entries.forEachIndexed { index, (key, item) ->
        append(if (index > 0) ",\n" else "\n").append(indent).append("  ")
        writeString(key)
        append(": ")
        write(item, "$indent  ")
    }
    if (members.isNotEmpty()) append('\n').append(indent)
    append('}')
}

private fun StringBuilder.writeString(value: String) {
    append('"')
    for (char in value) {
        when {
            char == '"' || char == '\\' -> {
                append('\\').append(char)
            }

            char < ' ' || char in '\u007f'..'\u009f' || char.isSurrogate() || char in "\u2028\u2029" -> {
                append("\\u").append(char.code.toString(16).padStart(4, '0'))
            }

            else -> {
                append(char)
            }
        }
    }
    append('"')
}
