"""From an agent's report to what a latency run understands."""

from datetime import UTC, datetime
from typing import Any

from edgefiqa.benchmarks.latency.protocol import AgentReport, DeviceInfo, DeviceState
from edgefiqa.benchmarks.latency.targets.base import Machine
from edgefiqa.errors import ArtifactError, EdgeFiqaError, ParityError
from edgefiqa.measuring.records import HostState, LatencyPhase

__all__ = ["check_report", "phone_machine", "ready_message", "turn_message"]

BATTERY_RISE_C = 5.0
"""The battery warming by more than this during the run makes it noisy."""

_COOL = ("none", "unknown")
_MS = 1e-6  # of a nanosecond


def check_report(report: AgentReport) -> None:
    """Refuse the report of a job that did not succeed.

    Raises:
        ParityError: The scores or pixels are not those of the golden vectors.
        EdgeFiqaError: A stage failed, or the rules were not kept.
    """
    if report.errors:
        faults = "; ".join(f"{error.stage}: {error.kind}: {error.what}" for error in report.errors)
        raise EdgeFiqaError(f"the agent failed ({faults})")
    if report.goldens is not None and not report.goldens.passed:
        wrong = [check for check in report.goldens.checks if not check.passed]
        first = wrong[0]
        found = first.fault or f"off by {first.difference:g}, allowed {first.allowed:g}"
        raise ParityError(
            f"golden mismatch: {len(wrong)} of {len(report.goldens.checks)} checks",
            value=f"{first.case}, {first.level}: {found}",
            next_step="edgefiqa verify EXPORT says whether the file is right on this machine",
        )
    if not report.rules_met:
        raise EdgeFiqaError("the phone did not reach the fewest samples in the time allowed")
    if report.model is None or report.model.sha256 is None or not report.samples_ns:
        raise ArtifactError("the agent's report holds no measurement", value=report.job_id)


def ready_message(report: AgentReport) -> dict[str, Any]:
    """Return what a process says when it is ready, see ``latency_process``."""
    assert report.model is not None
    return {
        "sha256": report.model.sha256,
        "runtime_version": f"{report.runtime.name} {report.runtime.version}",
        "load_ms": None if report.load_ns is None else report.load_ns * _MS,
        "first_ms": None if report.first_ns is None else report.first_ns * _MS,
        "baseline_rss_bytes": None,
    }


def turn_message(report: AgentReport) -> dict[str, Any]:
    """Return what a process says after a turn, see ``latency_process``."""
    samples: dict[str, list[float]] = {
        LatencyPhase.INFERENCE.value: [n * _MS for n in report.samples_ns]
    }
    for timed in report.end_to_end:
        parts = {
            LatencyPhase.DECODE: timed.decode_ns,
            LatencyPhase.PREPROCESS: timed.preprocess_ns,
            LatencyPhase.PHOTO_INFERENCE: timed.score_ns,
            LatencyPhase.END_TO_END: timed.decode_ns + timed.preprocess_ns + timed.score_ns,
        }
        for phase, took_ns in parts.items():
            samples.setdefault(phase.value, []).append(took_ns * _MS)
    return {"samples_ms": samples}


def _host_state(info: DeviceInfo, state: DeviceState | None, report: AgentReport) -> HostState:
    name = f"{info.manufacturer} {info.model}" + (f", {info.soc}" if info.soc else "")
    return HostState(
        recorded_at=datetime.now(UTC).isoformat("T", "seconds"),
        processor=name,
        architecture=info.abis[0] if info.abis else "unknown",
        cores=info.cores,
        system=info.system,
        packages={
            report.agent.name: report.agent.version,
            report.runtime.name: report.runtime.version,
        },
        temperature_c=state.battery_celsius if state else None,
    )


def phone_machine(reports: list[AgentReport]) -> Machine:
    """Return what the reports of a run say of the phone.

    Args:
        reports: Reports of the jobs that succeeded, in order; at least one.

    Raises:
        ArtifactError: None of them says what the device is.
    """
    known = next((report for report in reports if report.device is not None), None)
    if known is None or known.device is None:
        raise ArtifactError("no report says what the device is", value=reports[0].job_id)
    first, last = reports[0], reports[-1]
    before = _host_state(known.device, first.state_before, first)
    after = _host_state(known.device, last.state_after, last)
    states = [
        state for report in reports for state in (report.state_before, report.state_after) if state
    ]
    noise = []
    hot = sorted({state.thermal_status for state in states} - set(_COOL))
    if hot:
        noise.append(f"thermal status {', '.join(hot)}")
    if any(state.power_save for state in states):
        noise.append("the phone saves power")
    if before.temperature_c is not None and after.temperature_c is not None:
        rise_c = after.temperature_c - before.temperature_c
        if rise_c > BATTERY_RISE_C:
            noise.append(f"the battery is {rise_c:.0f} °C warmer at the end")
    return Machine(before=before, after=after, others=None, noise=tuple(noise))
