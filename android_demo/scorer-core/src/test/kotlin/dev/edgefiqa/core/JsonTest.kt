package dev.edgefiqa.core

import org.junit.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class JsonTest {
    @Test
    fun `documents survive writing and reading`() {
        val document =
            mapOf(
                "text" to "ä \" \\ \u0001 \n 😀 \u2028",
                "numbers" to listOf(0, -1, Long.MAX_VALUE, 0.1, 1e-300, -2.5e20),
                "empty" to listOf(emptyList<Any>(), emptyMap<String, Any>()),
                "words" to listOf(true, false, null),
                "nested" to mapOf("a" to listOf(mapOf("b" to 1))),
            )
        val json = Json.of(document)
        assertEquals(json, Json.parse(json.toText()))
    }

    @Test
    fun `escapes are read`() {
        assertEquals(
            Json.Str("\u00e9\b\u000c\n\r\t/\\\"😀"),
            Json.parse("\"\\u00E9\\b\\f\\n\\r\\t\\/\\\\\\\"\\ud83d\\ude00\""),
        )
    }

    @Test
    fun `large integers keep their digits`() {
        val fields = Fields(Json.parse("{\"ns\": 9007199254740993}"), "job")
        assertEquals(9_007_199_254_740_993L, fields.long("ns"))
    }

    @Test
    fun `what RFC 8259 forbids is refused with its position`() {
        val bad =
            listOf(
                "",
                "{",
                "[1,]",
                "{\"a\":1,}",
                "{\"a\" 1}",
                "{a:1}",
                "01",
                "1.",
                ".5",
                "+1",
                "1e",
                "tru",
                "nul",
                "NaN",
                "'a'",
                "\"a",
                "\"\u0001\"",
                "\"\\x\"",
                "\"\\u12g4\"",
                "\"\\u12",
                "[1] 2",
                "{\"a\":1,\"a\":2}",
                "[".repeat(101),
                "-",
                "[1 2]",
                "\u00a01",
            )
        for (text in bad) {
            val error = assertFailsWith<ScorerException>("accepted: $text") { Json.parse(text) }
            assertTrue("line" in error.message.orEmpty())
        }
    }

    @Test
    fun `numbers that JSON does not have are not written`() {
        assertFailsWith<ScorerException> { Json.of(Double.NaN) }
        assertFailsWith<ScorerException> { Json.of(Float.POSITIVE_INFINITY) }
        assertFailsWith<ScorerException> { Json.of(Any()) }
    }

    @Test
    fun `fields name what is missing, wrong or unknown`() {
        val fields = Fields(Json.parse("{\"a\": 1, \"b\": \"x\", \"c\": null}"), "job")
        assertEquals("job.z is missing", assertFailsWith<ScorerException> { fields.string("z") }.message)
        assertTrue("job.a" in assertFailsWith<ScorerException> { fields.string("a") }.message.orEmpty())
        assertFailsWith<ScorerException> { fields.long("a", 2L..3L) }
        assertFailsWith<ScorerException> { fields.choice("b", listOf("y")) }
        assertFailsWith<ScorerException> { fields.sha256("b") }
        assertEquals(null, fields.optionalFields("c"))
        assertEquals("x", fields.string("b"))
        assertFailsWith<ScorerException> {
            Fields(
                Json.parse("{\"a\": 1, \"b\": 2}"),
                "x",
            ).apply { long("a") }.finish()
        }
        assertFailsWith<ScorerException> { Fields(Json.parse("[]"), "x") }
    }
}
