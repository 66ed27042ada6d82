package dev.edgefiqa.core

import org.junit.Assume.assumeNotNull
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.io.File
import javax.imageio.ImageIO
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** The whole protocol on the JVM, with a scorer that gives the mean of its bytes. */
class AgentTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val folder: File get() = temporary.root
    private val model get() = File(folder, "mean.tflite")
    private val goldens get() = File(folder, "goldens/goldens.json")

    @Before
    fun prepare() {
        model.writeText("not a real model, but a real file")
        File(folder, "goldens").mkdir()
        writeGoldens()
    }

    @Test
    fun `a job gives a whole report that passes`() {
        val report = runJob("passed")
        assertTrue(report.passed, report.errors.toString())
        val latency = assertNotNull(report.latency)
        assertEquals(2, latency.warmUpNs.size)
        assertTrue(latency.samplesNs.size >= 20)
        assertEquals(Hashing.sha256(model), report.modelSha256)
        assertEquals(3, report.goldenChecks?.size)
        assertEquals(5, report.endToEnd.size)
        assertEquals("noise", report.timedInput)
    }

    @Test
    fun `another model file is refused and not executed`() {
        val report = runJob("other_model", change = { it.replace(Hashing.sha256(model), "0".repeat(64)) })
        assertEquals(listOf("model"), report.errors.map { it.stage })
        assertNull(report.latency)
        assertEquals(Hashing.sha256(model), report.modelSha256)
    }

    @Test
    fun `a missing model is an error record`() {
        val report = runJob("missing_model", change = { it.replace("mean.tflite", "absent.tflite") })
        assertEquals(listOf("model"), report.errors.map { it.stage })
    }

    @Test
    fun `a scorer that is off fails its goldens and keeps its latency`() {
        val report = runJob("golden_mismatch", factory = MeanFactory(offset = 0.01f))
        assertFalse(report.passed)
        assertTrue(report.errors.isEmpty())
        val checks = assertNotNull(report.goldenChecks)
        assertEquals(listOf(true, false, false), checks.map { it.passed })
        assertEquals(0.01, assertNotNull(checks[1].difference), 1e-6)
        assertNotNull(report.latency)
    }

    @Test
    fun `a score that is not a number fails`() {
        val report = runJob("not_a_number", factory = MeanFactory(offset = Float.NaN))
        assertEquals(listOf(true, false, false), report.goldenChecks?.map { it.passed })
    }

    @Test
    fun `a runtime that breaks in the middle leaves records`() {
        val report = runJob("crash", factory = MeanFactory(failAfter = 10))
        assertEquals(listOf("latency", "end_to_end"), report.errors.map { it.stage })
        assertFalse(report.passed)
        assertNotNull(report.loadNs)
    }

    @Test
    fun `a runtime without its native library is an error record`() {
        val report = runJob("no_library", factory = MeanFactory(missing = true))
        assertEquals(listOf("load"), report.errors.map { it.stage })
        assertEquals("UnsatisfiedLinkError", report.errors.single().kind)
    }

    @Test
    fun `changed goldens are refused, latency is measured on grey`() {
        val report = runJob("changed_goldens", change = { it.replace(Hashing.sha256(goldens), "1".repeat(64)) })
        assertEquals(listOf("goldens"), report.errors.map { it.stage })
        assertEquals("grey", report.timedInput)
        assertNull(report.goldenChecks)
        assertNotNull(report.latency)
    }

    @Test
    fun `a damaged golden photo fails its own checks only`() {
        File(folder, "goldens/noise.png").appendText("x")
        val report = runJob("damaged_photo")
        assertEquals(listOf(false, true, false), report.goldenChecks?.map { it.passed })
    }

    @Test
    fun `a job for another runtime is refused`() {
        val report = runJob("other_runtime", change = { it.replace("litert", "onnxruntime") })
        assertEquals(listOf("job"), report.errors.map { it.stage })
    }

    @Test
    fun `jobs with faults are refused`() {
        val faults =
            listOf<(String) -> String>(
                { it.dropLast(5) },
                { it.replace("\"threads\": 1", "\"threads\": 0") },
                { it.replace("\"threads\": 1", "\"threads\": 1, \"extra\": 2") },
                { it.replace("mean.tflite", "../mean.tflite") },
                { it.replace("mean.tflite", "/etc/passwd") },
                { it.replace("\"schema_version\": 1", "\"schema_version\": 2") },
                { it.replace("\"minimum_count\": 20", "\"minimum_count\": 0") },
            )
        for ((index, fault) in faults.withIndex()) {
            val report = runJob("faulty_$index", change = fault)
            assertEquals(listOf("job"), report.errors.map { it.stage }, "fault $index")
            assertFalse(report.passed)
        }
    }

    @Test
    fun `run rules that cannot be met say so`() {
        val report =
            runJob(
                "rules_not_met",
                change = { it.replace("\"maximum_duration_ns\": 60000000000", "\"maximum_duration_ns\": 1") },
            )
        assertFalse(report.passed)
        assertEquals(false, report.latency?.rulesMet)
    }

    @Test
    fun `the schema file refuses what the protocol refuses`() {
        val validator = schema()
        val good = Json.parse(jobText("valid"))
        assertEquals(emptyList(), validator.faults("AgentJob", good))
        val wrong = Json.parse(jobText("valid").replace("\"threads\": 1", "\"threads\": 0, \"x\": 1"))
        assertEquals(2, validator.faults("AgentJob", wrong).size)
    }

    @Test
    fun `jobs that Python wrote are read as they were meant`() {
        val files =
            TestFiles.jobs
                ?.listFiles { file -> file.isFile }
                .orEmpty()
                .sorted()
        assumeTrue(files.isNotEmpty())
        for (file in files) {
            val job = AgentJob.parse(file.readText())
            assertEquals(file.nameWithoutExtension, job.runtime.id)
            assertEquals("${job.runtime.id}-${job.threads}_threads", job.jobId)
            assertEquals("models/default student.${job.runtime.id}", job.modelFile)
            assertEquals(job.threads, job.endToEndCount)
            assertEquals(if (job.threads == 1) 1 else 100, job.rules.minimumCount)
            assertEquals(job.threads == 1, job.goldens != null)
        }
        assertEquals(RuntimeId.entries.size, files.size)
    }

    private fun runJob(
        id: String,
        factory: ScorerFactory = MeanFactory(),
        change: (String) -> String = { it },
    ): AgentReport {
        val jobFile = File(folder, "$id.json").apply { writeText(change(jobText(id))) }
        val agent = Agent("JVM test", "1", factory, imageIoDecoder, JvmProbe)
        val (file, report) = agent.runAndWrite(jobFile, File(folder, "reports"))
        if (TestFiles.schema != null) {
            assertEquals(emptyList(), schema().faults("AgentReport", Json.parse(file.readText())), id)
        }
        TestFiles.reports?.let {
            file.copyTo(File(it, "$id.report.json"), overwrite = true)
            jobFile.copyTo(File(it, "$id.json"), overwrite = true)
        }
        return report
    }

    private fun schema(): SchemaValidator {
        val file = TestFiles.schema
        assumeNotNull(file)
        return SchemaValidator(Json.parse(checkNotNull(file).readText()) as Json.Obj)
    }

    private fun jobText(id: String): String =
        Json
            .of(
                mapOf(
                    "schema_version" to 1,
                    "job_id" to id,
                    "model" to mapOf("file" to "mean.tflite", "sha256" to Hashing.sha256(model)),
                    "runtime" to "litert",
                    "precision" to "fp32",
                    "threads" to 1,
                    "size" to SIZE,
                    "rules" to
                        mapOf(
                            "warm_up_count" to 2,
                            "minimum_count" to 20,
                            "minimum_duration_ns" to 1_000_000,
                            "maximum_duration_ns" to 60_000_000_000,
                        ),
                    "goldens" to mapOf("directory" to "goldens", "sha256" to Hashing.sha256(goldens)),
                    "end_to_end_count" to 5,
                ),
            ).toText()

    private fun writeGoldens() {
        val photo = noise(40, 30, 3)
        val tensor = Preprocessor(SIZE).toTensor(photo)
        val photoBytes = png(photo)
        File(folder, "goldens/noise.png").writeBytes(photoBytes)
        File(folder, "goldens/noise.tensor.png").writeBytes(png(RgbImage(SIZE, SIZE, tensor)))
        val case =
            mapOf(
                "name" to "noise",
                "photo" to "noise.png",
                "photo_sha256" to Hashing.sha256(photoBytes),
                "tensor" to "noise.tensor.png",
                "tensor_sha256" to Hashing.sha256(tensor),
                "tensor_tolerance" to 0,
                "score" to mean(tensor),
            )
        val document =
            mapOf(
                "schema_version" to 1,
                "size" to SIZE,
                "parent_sha256" to "",
                "reference" to "the mean",
                "tolerances" to mapOf("fp32" to 1e-4),
                "cases" to listOf(case),
            )
        goldens.writeText(Json.of(document).toText())
    }

    private fun png(picture: RgbImage): ByteArray {
        val image = BufferedImage(picture.width, picture.height, BufferedImage.TYPE_INT_RGB)
        for (index in 0 until picture.width * picture.height) {
            val (red, green, blue) = (0 until 3).map { picture.pixels[3 * index + it].toInt() and 0xFF }
            image.setRGB(index % picture.width, index / picture.width, (red shl 16) or (green shl 8) or blue)
        }
        return ByteArrayOutputStream().also { ImageIO.write(image, "png", it) }.toByteArray()
    }

    private class MeanFactory(
        private val offset: Float = 0f,
        private val failAfter: Int = Int.MAX_VALUE,
        private val missing: Boolean = false,
    ) : ScorerFactory {
        override val runtime = RuntimeId.LITERT
        override val runtimeVersion = "test"

        override fun open(
            model: File,
            threads: Int,
        ): TensorScorer {
            if (missing) throw UnsatisfiedLinkError("libnone.so")
            return object : TensorScorer {
                private var calls = 0
                override val size = SIZE

                override fun score(tensor: ByteArray): Float {
                    if (++calls > failAfter) throw ScorerException("the runtime broke", calls)
                    return mean(tensor).toFloat() + offset
                }

                override fun close() = Unit
            }
        }
    }

    private object JvmProbe : DeviceProbe {
        override fun info() = DeviceInfo("none", "JVM", "", System.getProperty("os.name"), 0, listOf("jvm"), 1, 4096, 0)

        override fun state() = DeviceState(System.nanoTime(), "unknown", null, null, null, null, null, null)

        override fun peakRssBytes(): Long? = null
    }

    private companion object {
        const val SIZE = 16

        fun mean(tensor: ByteArray): Double = tensor.sumOf { it.toInt() and 0xFF } / (255.0 * tensor.size)
    }
}
