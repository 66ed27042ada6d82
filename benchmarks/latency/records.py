"""From what cells gave to records: of those that finished, of those that did not."""

from collections.abc import Sequence
from pathlib import Path

from edgefiqa.benchmarks.latency.rounds import Taken
from edgefiqa.benchmarks.latency.rules import LatencyRules
from edgefiqa.benchmarks.latency.targets.base import Machine
from edgefiqa.files import size_of
from edgefiqa.measuring.records import (
    Attempt,
    Executed,
    FailureRecord,
    LatencyPhase,
    LatencyRecord,
    RecordedRules,
)
from edgefiqa.measuring.run_directory import load_record, record_path, save_record

__all__ = ["build_failures", "build_record", "save_outcome"]

_FAILURE = "latency: "  # for the reader: the table of failures shows all attempts together


def build_record(
    taken: Taken, rules: LatencyRules, *, run: str, device: str, machine: Machine
) -> LatencyRecord:
    """Build the record of a cell that finished.

    Args:
        taken: What it gave.
        rules: The rules kept.
        run: Name of the run whose files took turns.
        device: Where it ran.
        machine: What is known of the machine.
    """
    cell = taken.cell
    executed = Executed(
        file=cell.name,
        sha256=cell.sha256,
        size_bytes=size_of(cell.file),
        format=cell.format.value,
        target=cell.target,
        precision=cell.precision,
        runtime=cell.runtime,
        runtime_version=taken.runtime_version,
        threads=taken.threads,
        twins=cell.twins,
    )
    kept = RecordedRules(
        warm_up=rules.warm_up,
        turn_warm_up=rules.turn_warm_up,
        min_count=rules.min_count,
        min_seconds=rules.min_seconds,
        rounds=rules.rounds,
        turns=rules.turns,
        interleaved=run,
    )
    return LatencyRecord(
        executed=executed,
        device=device,
        host=machine.before,
        host_after=machine.after,
        rules=kept,
        samples_ms={LatencyPhase(phase): tuple(m) for phase, m in taken.samples_ms.items()},
        rounds=tuple(taken.rounds),
        turns=tuple(taken.turns),
        inferences=tuple(taken.inferences),
        peak_rss_bytes=taken.peak_rss_bytes or None,
        baseline_rss_bytes=taken.baseline_rss_bytes,
        noise="; ".join([*machine.noise, *taken.noise(machine.before.cores)]) or None,
    )


def build_failures(failed: Sequence[Taken]) -> list[FailureRecord]:
    """Build the records of cells that did not finish, one a file and runtime."""
    by_file: dict[tuple[str, str], list[Taken]] = {}
    for taken in failed:
        by_file.setdefault((taken.cell.name, taken.cell.runtime), []).append(taken)
    records = []
    for group in by_file.values():
        cell = group[0].cell
        faults = (
            f"{turns.threads} thread{'s' * (turns.threads > 1)}: {turns.error}" for turns in group
        )
        records.append(
            FailureRecord(
                file=cell.name,
                sha256=cell.sha256,
                target=cell.target,
                precision=cell.precision,
                runtime=cell.runtime,
                attempt=Attempt.LATENCY,
                error=_FAILURE + "; ".join(faults),
                twins=cell.twins,
            )
        )
    return records


def save_outcome(
    out: Path,
    taken: Sequence[Taken],
    records: Sequence[LatencyRecord],
    failures: Sequence[FailureRecord],
    *,
    device: str,
) -> None:
    """Write the records; what an earlier run left of the same cells on this device goes."""
    measured = {(turns.cell.name, turns.cell.runtime, turns.threads) for turns in taken}
    for path in (out / "latency").glob("*.json"):
        old = load_record(path)
        if isinstance(old, LatencyRecord) and old.device == device and _named(old) in measured:
            path.unlink()
    for path in (out / "failures").glob("*.json"):
        failure = load_record(path)
        cells = {name[:2] for name in measured}
        if not isinstance(failure, FailureRecord) or failure.attempt is not Attempt.LATENCY:
            continue
        if (failure.file, failure.runtime) in cells:
            path.unlink()
    for record in records:
        save_record(out, record)
    for failure in failures:
        if not record_path(out, failure).exists():  # it failed to score too, which says more
            save_record(out, failure)


def _named(record: LatencyRecord) -> tuple[str, str, int]:
    return record.executed.file, record.executed.runtime, record.executed.threads
