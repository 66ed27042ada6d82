"""The agent protocol: one job file to the device, one report file back.

::

    host                                   device
    ────                                   ──────
    model, goldens/, job.json  ──push──▶   a folder of its own
    am instrument -e job …     ──run───▶   one fresh process for one (model, threads) cell
    report.json                ◀──pull──   written whole or not at all

File names in a job are relative to the job file's folder. Both sides hash what they handle: the
host names the model's and the goldens' sha256, the device reports the ones it computed, and
``check_answer`` refuses a report that is about anything else. ``agent.schema.json`` is the same
definition for other languages; it is generated from these classes.
"""

import json
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgefiqa.errors import ArtifactError
from edgefiqa.files import sha256_of, write_text
from edgefiqa.preprocess import MAX_SIZE, MIN_SIZE

__all__ = [
    "SCHEMA_PATH",
    "AgentError",
    "AgentJob",
    "AgentReport",
    "DeviceInfo",
    "DeviceState",
    "EndToEndSample",
    "GoldenCheck",
    "GoldenResult",
    "JobGoldens",
    "JobModel",
    "LatencyStatistics",
    "ReportedModel",
    "RunRules",
    "Runtime",
    "build_schema",
    "check_answer",
    "load_report",
    "write_job",
    "write_schema",
]

SCHEMA_PATH = Path(str(files("edgefiqa.benchmarks.protocol") / "agent.schema.json"))
"""The JSON schema of both files."""

SCHEMA_VERSION: Literal[1] = 1
_HOUR_NS = 3_600_000_000_000
_RELATIVE_TOLERANCE = 1e-9

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
RelativePath = Annotated[
    str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9._ -]*(/[A-Za-z0-9_][A-Za-z0-9._ -]*)*$")
]
Nanoseconds = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(StrEnum):
    """A runtime that an agent executes models with."""

    LITERT = "litert"
    EXECUTORCH = "executorch"
    ONNXRUNTIME = "onnxruntime"


class JobModel(_Record):
    """The model of a job.

    Attributes:
        file: Its name, relative to the job file's folder.
        sha256: What its hash must be.
    """

    file: RelativePath
    sha256: Sha256


class RunRules(_Record):
    """How often an inference is measured: minimum count *and* minimum duration.

    Attributes:
        warm_up_count: Inferences before the measured ones.
        minimum_count: At least this many samples.
        minimum_duration_ns: At least this long, in nanoseconds.
        maximum_duration_ns: The device stops here even if the minima are not reached.
    """

    warm_up_count: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    minimum_count: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    minimum_duration_ns: Annotated[int, Field(ge=0, le=_HOUR_NS)] = 5_000_000_000
    maximum_duration_ns: Annotated[int, Field(ge=1, le=_HOUR_NS)] = 600_000_000_000


class JobGoldens(_Record):
    """Golden vectors that the device checks.

    Attributes:
        directory: Folder beside the job file, as ``edgefiqa convert`` wrote it.
        sha256: Of its ``goldens.json``.
    """

    directory: RelativePath
    sha256: Sha256


class AgentJob(_Record):
    """One cell of a benchmark.

    Attributes:
        schema_version: Of this protocol.
        job_id: Name of the cell, and of the report file.
        model: The model.
        runtime: What must execute it; an agent of another runtime answers with an error.
        precision: Key of the golden tolerances.
        threads: Processor threads.
        size: Input side in pixels that the model must have.
        rules: How often the inference is measured.
        goldens: Golden vectors, or null.
        end_to_end_count: How often each golden photograph is decoded, preprocessed and scored.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    job_id: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    model: JobModel
    runtime: Runtime
    precision: str
    threads: Annotated[int, Field(ge=1, le=64)]
    size: Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
    rules: RunRules = RunRules()
    goldens: JobGoldens | None = None
    end_to_end_count: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class Named(_Record):
    """A piece of software.

    Attributes:
        name: Its name.
        version: Its version.
    """

    name: str
    version: str


class DeviceInfo(_Record):
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


class DeviceState(_Record):
    """What a device was doing at one moment; null where it does not say.

    Attributes:
        uptime_ns: Monotonic time since boot.
        thermal_status: The system's own word for how hot it is.
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


class ReportedModel(_Record):
    """The model as the device found it.

    Attributes:
        file: Its name in the job.
        sha256: Computed on the device; null if the file could not be read.
        size_bytes: Its size.
    """

    file: RelativePath
    sha256: Sha256 | None
    size_bytes: Annotated[int, Field(ge=0)] | None


class LatencyStatistics(_Record):
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


class EndToEndSample(_Record):
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


class GoldenCheck(_Record):
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


class GoldenResult(_Record):
    """All golden checks.

    Attributes:
        sha256: Of ``goldens.json``, computed on the device.
        passed: Whether every check passed.
        checks: The checks.
    """

    sha256: Sha256
    passed: bool
    checks: list[GoldenCheck]


class AgentError(_Record):
    """A failure that ended one stage; later stages that could still run did.

    Attributes:
        stage: Which stage.
        kind: Class of the exception on the device.
        what: Its message.
    """

    stage: Literal["job", "model", "load", "latency", "end_to_end", "goldens", "device"]
    kind: str
    what: str


class AgentReport(_Record):
    """All that an agent found out about one job; null or empty where it could not.

    Attributes:
        schema_version: Of this protocol.
        job_id: The job's name; empty if the job could not be read.
        job_sha256: Of the job file, computed on the device; empty if it could not be read.
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


def build_schema() -> dict[str, Any]:
    """Return the JSON schema of both files, as ``agent.schema.json`` holds it."""
    definitions: dict[str, Any] = {}
    for model in (AgentJob, AgentReport):
        schema = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgefiqa agent protocol, version 1",
        "description": "A document is an AgentJob (host to device) or an AgentReport (back).",
        "$defs": dict(sorted(definitions.items())),
        "anyOf": [{"$ref": "#/$defs/AgentJob"}, {"$ref": "#/$defs/AgentReport"}],
    }


def write_job(job: AgentJob, path: Path) -> str:
    """Write a job file, whole or not at all, and return its sha256."""
    write_text(path, job.model_dump_json(indent=2) + "\n")
    return sha256_of(path)


def load_report(path: Path) -> AgentReport:
    """Read a report that came from a device.

    Raises:
        ArtifactError: If it is missing, cut off, not of this layout, or contradicts itself.
    """
    try:
        report = AgentReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError("the agent's report cannot be read", value=path) from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "file"
        raise ArtifactError(
            f"the agent's report is not valid ({where}: {fault['msg']})",
            value=path,
            next_step="run the cell again; see logcat if it happens twice",
        ) from error
    _check_consistency(report, path)
    return report


def _check_consistency(report: AgentReport, path: Path) -> None:
    """Refuse a report whose summary is not that of its own records."""
    faults = []
    golden_faults = report.goldens is not None and not report.goldens.passed
    if report.passed and (report.errors or golden_faults or not report.rules_met):
        faults.append("it says passed beside errors, failed goldens or unmet run rules")
    if report.goldens is not None:
        allowed = all(check.passed for check in report.goldens.checks)
        if report.goldens.passed is not allowed:
            faults.append("its golden result is not that of its checks")
    if (report.statistics is None) is not (not report.samples_ns):
        faults.append("it has statistics without samples, or samples without statistics")
    elif report.statistics is not None and not _is_summary(report.statistics, report.samples_ns):
        faults.append("its statistics are not those of its samples")
    if faults:
        raise ArtifactError(
            f"the agent's report contradicts itself: {'; '.join(faults)}", value=path
        )


def _is_summary(statistics: LatencyStatistics, samples_ns: list[int]) -> bool:
    samples = np.asarray(samples_ns, np.float64)
    low, p50, high, p90, p99 = np.percentile(samples, (25, 50, 75, 90, 99))
    expected = (
        (statistics.count, len(samples)),
        (statistics.min_ns, samples.min()),
        (statistics.max_ns, samples.max()),
        (statistics.mean_ns, samples.mean()),
        (statistics.p50_ns, p50),
        (statistics.p90_ns, p90),
        (statistics.p99_ns, p99),
    )
    slack = _RELATIVE_TOLERANCE * max(1.0, samples.max())
    close = all(abs(found - value) <= slack for found, value in expected)
    return bool(close and abs(statistics.iqr_ns - (high - low)) <= 2 * slack)


def check_answer(job: AgentJob, job_sha256: str, report: AgentReport) -> None:
    """Check that a report answers this job: same job file, same model, same goldens.

    Args:
        job: What was asked.
        job_sha256: What ``write_job`` returned.
        report: What came back.

    Raises:
        ArtifactError: If the report is about something else; all differences are named.
    """
    asked: dict[str, object] = {"job_sha256": job_sha256, "job_id": job.job_id}
    found: dict[str, object] = {"job_sha256": report.job_sha256, "job_id": report.job_id}
    unread = any(error.stage == "job" for error in report.errors)
    if unread:  # the job could not be read there: its bytes are all that can be compared
        asked.pop("job_id")
    else:
        asked |= {"runtime": job.runtime, "precision": job.precision, "threads": job.threads}
        found |= {
            "runtime": report.runtime.name,
            "precision": report.precision,
            "threads": report.threads,
        }
        if report.samples_ns or report.goldens:
            asked["model sha256"] = job.model.sha256
            found["model sha256"] = report.model.sha256 if report.model else None
        if job.goldens and report.goldens:
            asked["goldens sha256"] = job.goldens.sha256
            found["goldens sha256"] = report.goldens.sha256
    faults = [f"{k} is {found[k]}, asked {v}" for k, v in asked.items() if found[k] != v]
    if faults:
        raise ArtifactError(
            "the report answers another job",
            value="; ".join(faults),
            next_step="remove old files from the device and run the cell again",
        )


def write_schema() -> None:
    """Write ``agent.schema.json`` again; needed after these classes have changed."""
    write_text(SCHEMA_PATH, json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n")
