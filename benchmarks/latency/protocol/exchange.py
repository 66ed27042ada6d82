"""Writing jobs, and refusing reports that are damaged, contradictory or about something else."""

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from edgefiqa.benchmarks.latency.protocol.agent_job import AgentJob
from edgefiqa.benchmarks.latency.protocol.agent_report import AgentReport, LatencyStatistics
from edgefiqa.errors import ArtifactError
from edgefiqa.files import sha256_of, write_text

__all__ = ["check_answer", "load_report", "write_job"]

_RELATIVE_TOLERANCE = 1e-9


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
    """Refuse a report whose summary is not that of its records."""
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
