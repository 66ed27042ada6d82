package dev.edgefiqa.core

/**
 * Golden vectors of a job.
 *
 * @property directory folder beside the job file
 * @property sha256 of its `goldens.json`
 */
data class JobGoldens(
    val directory: String,
    val sha256: String,
)

/**
 * One cell of a benchmark: one model, one number of threads, one fresh process.
 *
 * File names are relative to the job file's folder. The layout is the definition `AgentJob` of
 * `benchmarks/latency/protocol/agent.schema.json`.
 *
 * @property jobId name of the cell, also of the report file
 * @property modelFile the model
 * @property modelSha256 what the model's hash must be
 * @property runtime what must execute it
 * @property precision key of the golden tolerances
 * @property threads processor threads
 * @property size input side in pixels that the model must have
 * @property rules how often the inference is measured
 * @property goldens golden vectors to check, or null
 * @property endToEndCount how often each golden photograph is decoded, preprocessed and scored
 */
data class AgentJob(
    val jobId: String,
    val modelFile: String,
    val modelSha256: String,
    val runtime: RuntimeId,
    val precision: String,
    val threads: Int,
    val size: Int,
    val rules: RunRules,
    val goldens: JobGoldens?,
    val endToEndCount: Int,
) {
    companion object {
        private const val SCHEMA_VERSION = 1L
        private const val MAX_THREADS = 64
        private const val MAX_COUNT = 1_000_000
        private const val MAX_DURATION_NS = 3_600_000_000_000L
        private val ID = Regex("[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
        private val RELATIVE = Regex("[A-Za-z0-9_][A-Za-z0-9._ -]*(/[A-Za-z0-9_][A-Za-z0-9._ -]*)*")

        /**
         * Reads a job.
         *
         * @throws ScorerException naming the first member that is missing, unknown or not usable
         */
        fun parse(text: String): AgentJob {
            val fields = Fields(Json.parse(text), "job")
            fields.long("schema_version", SCHEMA_VERSION..SCHEMA_VERSION)
            val model = fields.fields("model")
            val job =
                AgentJob(
                    jobId = matching(fields, "job_id", ID),
                    modelFile = matching(model, "file", RELATIVE),
                    modelSha256 = model.sha256("sha256"),
                    runtime = RuntimeId.of(fields.choice("runtime", RuntimeId.ids)),
                    precision = fields.string("precision"),
                    threads = fields.int("threads", 1..MAX_THREADS),
                    size = fields.int("size", Preprocessor.MIN_SIZE..Preprocessor.MAX_SIZE),
                    rules = readRules(fields.fields("rules")),
                    goldens = fields.optionalFields("goldens")?.let(::readGoldens),
                    endToEndCount = fields.int("end_to_end_count", 0..MAX_COUNT),
                )
            model.finish()
            fields.finish()
            return job
        }

        private fun readRules(fields: Fields): RunRules =
            RunRules(
                warmUpCount = fields.int("warm_up_count", 0..MAX_COUNT),
                minimumCount = fields.int("minimum_count", 1..MAX_COUNT),
                minimumDurationNs = fields.long("minimum_duration_ns", 0..MAX_DURATION_NS),
                maximumDurationNs = fields.long("maximum_duration_ns", 1..MAX_DURATION_NS),
            ).also { fields.finish() }

        private fun readGoldens(fields: Fields): JobGoldens =
            JobGoldens(matching(fields, "directory", RELATIVE), fields.sha256("sha256")).also { fields.finish() }

        private fun matching(
            fields: Fields,
            name: String,
            pattern: Regex,
        ): String =
            fields.string(name).also {
                if (!pattern.matches(it)) throw ScorerException("job $name is not usable", it, pattern.pattern)
            }
    }
}
