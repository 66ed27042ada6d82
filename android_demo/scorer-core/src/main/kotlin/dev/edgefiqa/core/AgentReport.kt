package dev.edgefiqa.core

/**
 * What a device is.
 *
 * @property soc the system on chip as the device names it, or an empty text
 * @property abis instruction sets, the preferred one first
 * @property cores processors that the system shows
 * @property pageSizeBytes the kernel's memory page
 * @property memoryBytes all of the device's memory
 */
data class DeviceInfo(
    val manufacturer: String,
    val model: String,
    val soc: String,
    val system: String,
    val apiLevel: Int,
    val abis: List<String>,
    val cores: Int,
    val pageSizeBytes: Long,
    val memoryBytes: Long,
)

/**
 * What a device was doing at one moment; null where it does not say.
 *
 * @property uptimeNs monotonic time since boot
 * @property thermalStatus none, light, moderate, severe, critical, emergency, shutdown or unknown
 * @property thermalHeadroom share of the severe threshold, 1.0 = throttling begins
 * @property batteryPercent charge, 0..100
 * @property batteryCelsius the battery's temperature
 * @property availableMemoryBytes memory before the system begins to end processes
 */
data class DeviceState(
    val uptimeNs: Long,
    val thermalStatus: String,
    val thermalHeadroom: Double?,
    val batteryPercent: Int?,
    val batteryCelsius: Double?,
    val charging: Boolean?,
    val powerSave: Boolean?,
    val availableMemoryBytes: Long?,
)

/** Describes the device that the agent runs on. */
interface DeviceProbe {
    /** What the device is. */
    fun info(): DeviceInfo

    /** What it is doing now. */
    fun state(): DeviceState

    /** Largest resident set of this process so far in bytes, or null. */
    fun peakRssBytes(): Long?
}

/**
 * Stages of one photograph, in nanoseconds.
 *
 * @property photo file in the goldens directory
 */
data class EndToEndSample(
    val photo: String,
    val decodeNs: Long,
    val preprocessNs: Long,
    val scoreNs: Long,
)

/**
 * A failure that ended one stage; later stages that can still run do.
 *
 * @property stage job, model, load, latency, end_to_end, goldens or device
 * @property kind class of the exception
 */
data class AgentError(
    val stage: String,
    val kind: String,
    val what: String,
)

/**
 * All that an agent found out about one [AgentJob].
 *
 * The layout is the definition `AgentReport` of `benchmarks/latency/protocol/agent.schema.json`. What
 * could not be measured is null or empty and has an entry in [errors].
 *
 * @property jobId the job's name, or an empty text where the job could not be read
 * @property jobSha256 of the job file, computed on the device
 * @property modelSha256 of the model file, computed on the device
 * @property timedInput golden case whose tensor was timed, or "grey"
 * @property loadNs opening the model, in nanoseconds
 * @property firstNs the first inference, in nanoseconds
 */
data class AgentReport(
    val jobId: String,
    val jobSha256: String,
    val agent: String,
    val agentVersion: String,
    val runtime: RuntimeId,
    val runtimeVersion: String,
    val job: AgentJob? = null,
    val device: DeviceInfo? = null,
    val stateBefore: DeviceState? = null,
    val stateAfter: DeviceState? = null,
    val modelSha256: String? = null,
    val modelSizeBytes: Long? = null,
    val timedInput: String? = null,
    val loadNs: Long? = null,
    val firstNs: Long? = null,
    val latency: LatencyRun? = null,
    val endToEnd: List<EndToEndSample> = emptyList(),
    val goldenChecks: List<GoldenCheck>? = null,
    val peakRssBytes: Long? = null,
    val errors: List<AgentError> = emptyList(),
) {
    /** Whether every stage ended and every golden check passed. */
    val passed: Boolean
        get() = errors.isEmpty() && latency?.rulesMet == true && goldenChecks.orEmpty().all { it.passed }

    /** Returns the report as its JSON document. */
    fun toJson(): Json =
        Json.of(
            mapOf(
                "schema_version" to 1,
                "job_id" to jobId,
                "job_sha256" to jobSha256,
                "passed" to passed,
                "agent" to mapOf("name" to agent, "version" to agentVersion),
                "runtime" to mapOf("name" to runtime.id, "version" to runtimeVersion),
                "device" to device?.let(::deviceJson),
                "state_before" to stateBefore?.let(::stateJson),
                "state_after" to stateAfter?.let(::stateJson),
                "model" to job?.let { modelJson(it) },
                "precision" to job?.precision,
                "threads" to job?.threads,
                "timed_input" to timedInput,
                "load_ns" to loadNs,
                "first_ns" to firstNs,
                "warm_up_ns" to (latency?.warmUpNs ?: LongArray(0)),
                "samples_ns" to (latency?.samplesNs ?: LongArray(0)),
                "rules_met" to (latency?.rulesMet ?: false),
                "statistics" to latency?.samplesNs?.let(LatencyStatistics::of)?.let(::statisticsJson),
                "end_to_end" to endToEnd.map(::sampleJson),
                "goldens" to goldenChecks?.let { goldensJson(it) },
                "peak_rss_bytes" to peakRssBytes,
                "errors" to errors.map { mapOf("stage" to it.stage, "kind" to it.kind, "what" to it.what) },
            ),
        )

    private fun modelJson(job: AgentJob) =
        mapOf("file" to job.modelFile, "sha256" to modelSha256, "size_bytes" to modelSizeBytes)

    private fun goldensJson(checks: List<GoldenCheck>) =
        mapOf(
            "sha256" to job?.goldens?.sha256,
            "passed" to checks.all { it.passed },
            "checks" to checks.map(::checkJson),
        )
}

private fun deviceJson(info: DeviceInfo) =
    mapOf(
        "manufacturer" to info.manufacturer,
        "model" to info.model,
        "soc" to info.soc,
        "system" to info.system,
        "api_level" to info.apiLevel,
        "abis" to info.abis,
        "cores" to info.cores,
        "page_size_bytes" to info.pageSizeBytes,
        "memory_bytes" to info.memoryBytes,
    )

private fun stateJson(state: DeviceState) =
    mapOf(
        "uptime_ns" to state.uptimeNs,
        "thermal_status" to state.thermalStatus,
        "thermal_headroom" to state.thermalHeadroom,
        "battery_percent" to state.batteryPercent,
        "battery_celsius" to state.batteryCelsius,
        "charging" to state.charging,
        "power_save" to state.powerSave,
        "available_memory_bytes" to state.availableMemoryBytes,
    )

private fun statisticsJson(statistics: LatencyStatistics) =
    mapOf(
        "count" to statistics.count,
        "min_ns" to statistics.minNs,
        "max_ns" to statistics.maxNs,
        "mean_ns" to statistics.meanNs,
        "p50_ns" to statistics.p50Ns,
        "p90_ns" to statistics.p90Ns,
        "p99_ns" to statistics.p99Ns,
        "iqr_ns" to statistics.iqrNs,
    )

private fun sampleJson(sample: EndToEndSample) =
    mapOf(
        "photo" to sample.photo,
        "decode_ns" to sample.decodeNs,
        "preprocess_ns" to sample.preprocessNs,
        "score_ns" to sample.scoreNs,
    )

private fun checkJson(check: GoldenCheck) =
    mapOf(
        "case" to check.case,
        "level" to check.level.id,
        "passed" to check.passed,
        "difference" to check.difference,
        "allowed" to check.allowed,
        "fault" to check.fault,
    )
