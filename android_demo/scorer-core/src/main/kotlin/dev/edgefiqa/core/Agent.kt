package dev.edgefiqa.core

import java.io.File
import java.io.IOException

/**
 * Carries out one [AgentJob] in this process.
 *
 * A stage that fails becomes an error record; what does not need it goes on. Nothing is written
 * until the whole report is known.
 *
 * @param name what the report calls this agent
 * @param version version of the agent
 * @param factory opens models
 * @param decoder decodes photographs
 * @param probe describes the device
 * @param clock monotonic time in nanoseconds
 */
class Agent(
    private val name: String,
    private val version: String,
    private val factory: ScorerFactory,
    private val decoder: PhotoDecoder,
    private val probe: DeviceProbe,
    private val clock: () -> Long = System::nanoTime,
) {
    /** Runs the job in [jobFile]; this function does not throw for anything that a job can cause. */
    fun run(jobFile: File): AgentReport = Execution(jobFile).run()

    /** Runs the job in [jobFile] and writes `<job id>.json` into [directory], whole or not at all. */
    fun runAndWrite(
        jobFile: File,
        directory: File,
    ): Pair<File, AgentReport> {
        val report = run(jobFile)
        val target = File(directory, "${report.jobId.ifEmpty { jobFile.nameWithoutExtension }}.report.json")
        val staged = File(directory, ".${target.name}.staged")
        directory.mkdirs()
        staged.writeText(report.toJson().toText() + "\n")
        if (!staged.renameTo(target)) {
            staged.delete()
            throw ScorerException("the report cannot be written", target, nextStep = "check the folder")
        }
        return target to report
    }

    private inner class Execution(
        private val jobFile: File,
    ) {
        private val errors = ArrayList<AgentError>()
        private val folder = jobFile.absoluteFile.parentFile ?: File("/")
        private var report =
            AgentReport("", "", name, version, factory.runtime, factory.runtimeVersion)

        fun run(): AgentReport {
            report = report.copy(device = attempt("device") { probe.info() })
            report = report.copy(stateBefore = attempt("device") { probe.state() })
            val job = attempt("job") { readJob() }
            if (job != null) execute(job)
            report = report.copy(stateAfter = attempt("device") { probe.state() })
            report = report.copy(peakRssBytes = attempt("device") { probe.peakRssBytes() })
            return report.copy(errors = errors)
        }

        private fun readJob(): AgentJob {
            val content = jobFile.readBytes()
            report = report.copy(jobSha256 = Hashing.sha256(content))
            val job = AgentJob.parse(content.decodeToString())
            report = report.copy(jobId = job.jobId, job = job)
            if (job.runtime != factory.runtime) {
                throw ScorerException(
                    "this agent has another runtime",
                    job.runtime.id,
                    factory.runtime.id,
                    "install the app's flavour for it",
                )
            }
            return job
        }

        private fun execute(job: AgentJob) {
            val model = attempt("model") { checkModel(job) } ?: return
            val checker = job.goldens?.let { attempt("goldens") { openGoldens(job, it) } }
            var scorer: TensorScorer? = null
            val loadNs = attempt("load") { timed(clock) { scorer = factory.open(model, job.threads) } }
            scorer?.use {
                report = report.copy(loadNs = loadNs)
                measure(job, it, checker)
            }
        }

        private fun measure(
            job: AgentJob,
            scorer: TensorScorer,
            checker: OpenGoldens?,
        ) {
            val fits = attempt("load") { checkSize(scorer, job) }
            if (fits == null) return
            attempt("latency") { measureLatency(job, scorer, checker) }
            if (checker == null) return
            attempt("end_to_end") { measureEndToEnd(job, scorer, checker) }
            attempt("goldens") {
                report = report.copy(goldenChecks = checker.checker.check(job.precision, scorer::score))
            }
        }

        private fun checkModel(job: AgentJob): File {
            val model = File(folder, job.modelFile)
            val sha256 = Hashing.sha256(model)
            report = report.copy(modelSha256 = sha256, modelSizeBytes = model.length())
            if (sha256 != job.modelSha256) {
                throw ScorerException("the model is another file", sha256, job.modelSha256, "push it again")
            }
            return model
        }

        private fun openGoldens(
            job: AgentJob,
            reference: JobGoldens,
        ): OpenGoldens {
            val directory = File(folder, reference.directory)
            val content = File(directory, Goldens.FILE_NAME).readBytes()
            val sha256 = Hashing.sha256(content)
            if (sha256 != reference.sha256) {
                throw ScorerException("the golden vectors are other files", sha256, reference.sha256, "push them again")
            }
            val goldens = Goldens.parse(content.decodeToString())
            if (goldens.size != job.size) {
                throw ScorerException("the golden vectors have another size", goldens.size, "${job.size} pixels")
            }
            val files = FileSource { File(directory, it).readBytes() }
            return OpenGoldens(goldens, files, GoldenChecker(goldens, files, decoder))
        }

        private fun checkSize(
            scorer: TensorScorer,
            job: AgentJob,
        ): Boolean {
            if (scorer.size != job.size) {
                throw ScorerException("the model's input has another size", scorer.size, "${job.size} pixels")
            }
            return true
        }

        private fun measureLatency(
            job: AgentJob,
            scorer: TensorScorer,
            checker: OpenGoldens?,
        ) {
            val case = checker?.goldens?.cases?.firstOrNull()
            val tensor = case?.let(checker.checker::tensorOf) ?: ByteArray(3 * job.size * job.size) { GREY }
            report = report.copy(timedInput = case?.name ?: "grey")
            report = report.copy(firstNs = timed(clock) { scorer.score(tensor) })
            report = report.copy(latency = LatencyRun.measure(job.rules, clock) { scorer.score(tensor) })
        }

        private fun measureEndToEnd(
            job: AgentJob,
            scorer: TensorScorer,
            goldens: OpenGoldens,
        ) {
            val preprocessor = Preprocessor(job.size)
            val samples = ArrayList<EndToEndSample>()
            for (photo in goldens.goldens.cases.map { it.photo }) {
                val content = goldens.files.read(photo)
                repeat(job.endToEndCount) { samples += timeStages(photo, content, preprocessor, scorer) }
            }
            report = report.copy(endToEnd = samples)
        }

        private fun timeStages(
            photo: String,
            content: ByteArray,
            preprocessor: Preprocessor,
            scorer: TensorScorer,
        ): EndToEndSample {
            val begin = clock()
            val picture = decoder.decode(content)
            val decoded = clock()
            val tensor = preprocessor.toTensor(picture)
            val preprocessed = clock()
            scorer.score(tensor)
            return EndToEndSample(photo, decoded - begin, preprocessed - decoded, clock() - preprocessed)
        }

        private fun <T> attempt(
            stage: String,
            action: () -> T,
        ): T? =
            try {
                action()
            } catch (error: RuntimeException) {
                note(stage, error)
            } catch (error: IOException) {
                note(stage, error)
            } catch (error: LinkageError) {
                note(stage, error)
            } catch (error: OutOfMemoryError) {
                note(stage, error)
            }

        private fun note(
            stage: String,
            error: Throwable,
        ): Nothing? {
            errors += AgentError(stage, error::class.java.simpleName, error.message ?: "no message")
            return null
        }
    }

    private class OpenGoldens(
        val goldens: Goldens,
        val files: FileSource,
        val checker: GoldenChecker,
    )

    private companion object {
        const val GREY: Byte = 127
    }
}
