"""What an agent answers: everything it found out about one job."""

from typing import Annotated, Literal

from pydantic import Field

from edgefiqa.benchmarks.latency.protocol.agent_job import ProtocolRecord, RelativePath, Sha256

__all__ = [
    "AgentError",
    "AgentReport",
    "DeviceInfo",
    "DeviceState",
    "EndToEndSample",
    "GoldenCheck",
    "GoldenResult",
    "LatencyStatistics",
    "Named",
    "ReportedModel",
]

Nanoseconds = Annotated[int, Field(ge=0)]


class Named(ProtocolRecord):
    """A piece of software.

    Attributes:
        name: Its name.
        version: Its version.
    """

    name: str
    version: str


class DeviceInfo(ProtocolRecord):
    """What a device is.

    Attributes:
        manufacturer: As the device says it.
        model: As the device says it.
        soc: System on chip as the device names it, or an empty text.
        system: Operating system with its version.
        api_level: Android's API level; 0 on other systems.
        abis: Instruction sets, the preferred one first.
        cores: Processors that the system shows.
        page_size_bytes: The kernel's memory page.
        memory_bytes: All of the device's memory.
    """

    manufacturer: str
    model: str
    soc: str
    system: str
    api_level: Annotated[int, Field(ge=0)]
    abis: list[str]
    cores: Annotated[int, Field(ge=1)]
    page_size_bytes: Annotated[int, Field(ge=1)]
    memory_bytes: Annotated[int, Field(ge=0)]


class DeviceState(ProtocolRecord):
    """What a device was doing at one moment; null where it does not say.

    Attributes:
        uptime_ns: Monotonic time since boot.
        thermal_status: The system's word for how hot it is.
        thermal_headroom: Share of the severe threshold; throttling begins at 1.
        battery_percent: Charge.
        battery_celsius: The battery's temperature.
        charging: Whether it is being charged.
        power_save: Whether the system saves power.
        available_memory_bytes: Memory before the system begins to end processes.
    """

    uptime_ns: Nanoseconds
    thermal_status: Literal[
        "none", "light", "moderate", "severe", "critical", "emergency", "shutdown", "unknown"
    ]
    thermal_headroom: float | None
    battery_percent: Annotated[int, Field(ge=0, le=100)] | None
    battery_celsius: float | None
    charging: bool | None
    power_save: bool | None
    available_memory_bytes: Annotated[int, Field(ge=0)] | None


class ReportedModel(ProtocolRecord):
    """The model as the device found it.

    Attributes:
        file: Its name in the job.
        sha256: Computed on the device; null if the file could not be read.
        size_bytes: Its size.
    """

    file: RelativePath
    sha256: Sha256 | None
    size_bytes: Annotated[int, Field(ge=0)] | None


class LatencyStatistics(ProtocolRecord):
    """Summary of all samples, in nanoseconds; percentiles interpolate linearly.

    Attributes:
        count: Number of samples.
        min_ns: Shortest.
        max_ns: Longest.
        mean_ns: Mean.
        p50_ns: Median.
        p90_ns: 90th percentile.
        p99_ns: 99th percentile.
        iqr_ns: 75th minus 25th percentile.
    """

    count: Annotated[int, Field(ge=1)]
    min_ns: float
    max_ns: float
    mean_ns: float
    p50_ns: float
    p90_ns: float
    p99_ns: float
    iqr_ns: float


class EndToEndSample(ProtocolRecord):
    """Stages of one photograph.

    Attributes:
        photo: File in the goldens folder.
        decode_ns: Decoding the file.
        preprocess_ns: Resizing and cropping.
        score_ns: The inference.
    """

    photo: str
    decode_ns: Nanoseconds
    preprocess_ns: Nanoseconds
    score_ns: Nanoseconds


class GoldenCheck(ProtocolRecord):
    """Outcome of one golden check.

    Attributes:
        case: Name of the golden case.
        level: Where the check starts and ends.
        passed: The outcome.
        difference: Largest difference of a pixel in 1/255, or of the score; null if nothing could
            be computed.
        allowed: What was allowed, in the same unit.
        fault: Why it failed, or an empty text.
    """

    case: str
    level: Literal["photo_to_tensor", "tensor_to_score", "photo_to_score"]
    passed: bool
    difference: float | None
    allowed: float
    fault: str


class GoldenResult(ProtocolRecord):
    """All golden checks.

    Attributes:
        sha256: SHA-256 of ``goldens.json``, computed on the device.
        passed: Whether every check passed.
        checks: The checks.
    """

    sha256: Sha256
    passed: bool
    checks: list[GoldenCheck]


class AgentError(ProtocolRecord):
    """A failure that ended one stage; later stages that could still run did.

    Attributes:
        stage: Which stage.
        kind: Class of the exception on the device.
        what: Its message.
    """

    stage: Literal["job", "model", "load", "latency", "end_to_end", "goldens", "device"]
    kind: str
    what: str


class AgentReport(ProtocolRecord):
    """All that an agent found out about one job; null or empty where it could not.

    Attributes:
        schema_version: Schema version of this protocol.
        job_id: The job's name; empty if the job could not be read.
        job_sha256: SHA-256 of the job file, computed on the device; empty if it could not be read.
        passed: No errors, run rules met, every golden check passed.
        agent: The agent.
        runtime: What executed the model.
        device: What the device is.
        state_before: Before the job.
        state_after: After it.
        model: The model as found; null if the job could not be read.
        precision: As in the job.
        threads: As in the job.
        timed_input: Golden case whose tensor was timed, or "grey".
        load_ns: Opening the model.
        first_ns: The first inference.
        warm_up_ns: The warm-up inferences.
        samples_ns: All measured inferences in the order they happened.
        rules_met: Whether minimum count and minimum duration were reached.
        statistics: Summary of the samples; null if there are none.
        end_to_end: Stages of each photograph.
        goldens: Golden checks; null if none were asked for or they could not be run.
        peak_rss_bytes: Largest resident set of the process.
        errors: What went wrong.
    """

    schema_version: Literal[1]
    job_id: str
    job_sha256: str
    passed: bool
    agent: Named
    runtime: Named
    device: DeviceInfo | None
    state_before: DeviceState | None
    state_after: DeviceState | None
    model: ReportedModel | None
    precision: str | None
    threads: int | None
    timed_input: str | None
    load_ns: Nanoseconds | None
    first_ns: Nanoseconds | None
    warm_up_ns: list[Nanoseconds]
    samples_ns: list[Nanoseconds]
    rules_met: bool
    statistics: LatencyStatistics | None
    end_to_end: list[EndToEndSample]
    goldens: GoldenResult | None
    peak_rss_bytes: Annotated[int, Field(ge=0)] | None
    errors: list[AgentError]
