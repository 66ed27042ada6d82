package dev.edgefiqa.core

import org.junit.Assume.assumeNotNull
import org.junit.Test
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

class GoldensTest {
    @Test
    fun `the goldens of an export are met on the JVM`() {
        val folder = TestFiles.goldens
        assumeNotNull(folder)
        val goldens = Goldens.parse(File(folder, Goldens.FILE_NAME).readText())
        val checker = GoldenChecker(goldens, { File(folder, it).readBytes() }, imageIoDecoder)
        // The recorded scores stand in for a model, by the hash of the tensor it is given.
        val scores = goldens.cases.associate { it.tensorSha256 to it.score.toFloat() }
        // ImageIO does not turn JPEG photographs upright; the device's decoder does.
        val lossless = goldens.cases.filter { it.tensorTolerance == 0 }.map { it.name }
        val checks = checker.check("fp32") { scores[Hashing.sha256(it)] ?: Float.NaN }.filter { it.case in lossless }
        assertEquals(emptyList(), checks.filterNot { it.passed }.map { "${it.case} ${it.level}: ${it.fault}" })
        assertTrue(checks.size >= 15, "only ${checks.size} checks")
        println("goldens: ${checks.size} checks of ${lossless.size} cases passed")
    }

    @Test
    fun `an unknown precision is allowed no error`() {
        val goldens = Goldens(16, "", "", mapOf("fp32" to 0.1), emptyList())
        assertEquals(0.0, goldens.toleranceOf("int8"))
        assertEquals(0.1, goldens.toleranceOf("fp32"))
    }

    @Test
    fun `large scores may round more`() {
        assertEquals(0.001, Goldens.allowedError(0.001, 0.5))
        assertEquals(0.08, Goldens.allowedError(0.001, -80.0), 1e-12)
    }

    @Test
    fun `other layouts are refused`() {
        val text =
            "{\"schema_version\":1,\"size\":16,\"parent_sha256\":\"\",\"reference\":\"\"," +
                "\"tolerances\":{\"fp32\":0.1},\"cases\":[]}"
        assertEquals(0, Goldens.parse(text).cases.size)
        for (wrong in listOf(":1," to ":2,", "\"size\":16" to "\"size\":8", "[]" to "[{}]", "[]" to "[],\"new\":1")) {
            assertFailsWith<ScorerException>(wrong.second) { Goldens.parse(text.replace(wrong.first, wrong.second)) }
        }
    }
}
