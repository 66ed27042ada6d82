package dev.edgefiqa.core

import org.junit.Assume.assumeNotNull
import org.junit.Test
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNull

class QualityTest {
    @Test
    fun `bands are thirds of the label range`() {
        val bands = listOf(-5f, 0f, 0.33f, 0.34f, 0.66f, 0.67f, 1f, 9f).map { QualityBand.of(it, 0.0..1.0) }
        val (low, medium, high) = QualityBand.entries
        assertEquals(listOf(low, low, low, medium, medium, high, high, high), bands)
        assertEquals(QualityBand.MEDIUM, QualityBand.of(50f, 0.0..100.0))
        assertFailsWith<ScorerException> { QualityBand.of(Float.NaN, 0.0..1.0) }
    }

    @Test
    fun `the best frame is the first of the highest scores`() {
        assertEquals(1, bestFrame(listOf(0.1f, 0.9f, null, 0.9f, Float.NaN)))
        assertNull(bestFrame(listOf(null, Float.NaN)))
        assertNull(bestFrame(emptyList()))
    }

    @Test
    fun `a resource is closed only if what needs it fails`() {
        var closed = 0
        assertEquals(5, closingOnFailure({ closed++ }) { 5 })
        assertEquals(0, closed)
        assertFailsWith<ScorerException> { closingOnFailure({ closed++ }) { throw ScorerException("broken") } }
        assertEquals(1, closed)
    }

    @Test
    fun `inputs that are not of the contract are refused`() {
        val model = File("m.onnx")
        assertEquals(288, checkInput(model, listOf(1, 288, 288, 3), isUint8 = true))
        val wrong = listOf(listOf(1L, 3, 288, 288), listOf(2L, 288, 288, 3), listOf(1L, 8, 8, 3), listOf(288L))
        for (shape in wrong) assertFailsWith<ScorerException> { checkInput(model, shape, isUint8 = true) }
        assertFailsWith<ScorerException> { checkInput(model, listOf(1, 288, 288, 3), isUint8 = false) }
        assertFailsWith<ScorerException> { checkTensor(ByteArray(5), 16) }
    }

    @Test
    fun `a bundle that Python wrote is read`() {
        val folder = TestFiles.jobs
        assumeNotNull(folder)
        val bundle = Bundle.parse(File(folder, "bundle/${Bundle.FILE_NAME}").readText())
        val model = BundledModel("student.tflite", RuntimeId.LITERT, "fp32", "a".repeat(64), 5_116_624)
        assertEquals(Bundle("student", 288, 0.0..1.0, "b".repeat(64), listOf(model)), bundle)
    }

    @Test
    fun `bundles are read strictly`() {
        val hash = "a".repeat(64)
        val model =
            "{\"file\":\"m.tflite\",\"runtime\":\"litert\",\"precision\":\"fp32\"," +
                "\"sha256\":\"$hash\",\"size_bytes\":5}"
        val text =
            "{\"schema_version\":1,\"name\":\"n\",\"size\":288,\"score_range\":[0.0,1.0]," +
                "\"goldens_sha256\":\"$hash\",\"models\":[$model]}"
        val bundle = Bundle.parse(text)
        assertEquals(listOf(BundledModel("m.tflite", RuntimeId.LITERT, "fp32", hash, 5)), bundle.models)
        for (wrong in listOf(
            "288" to "5",
            "[0.0,1.0]" to "[1,1]",
            "[0.0,1.0]" to "[1]",
            "litert" to "tf",
            ":5" to ":0",
        )) {
            assertFailsWith<ScorerException>(wrong.second) { Bundle.parse(text.replace(wrong.first, wrong.second)) }
        }
    }
}
