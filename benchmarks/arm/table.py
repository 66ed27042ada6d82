"""The table of a run, in Markdown."""

from edgefiqa.benchmarks.arm.processor import Processor
from edgefiqa.benchmarks.arm.records import (
    ArmRecord,
    EmulatedRun,
    FileRecord,
    HostRun,
    largest_difference,
)
from edgefiqa.markdown import Table

__all__ = ["arm_table"]

_HEAD = (
    "file",
    "precision",
    "processor",
    "largest |ARM − this machine|",
    "largest |ARM − golden|",
    "largest |this machine − golden|",
    "allowed",
    "within",
    "sha256",
)
_CHOOSING = ("asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")


def arm_table(record: ArmRecord) -> str:
    """Return a row for each file and processor model, and what ran them.

    Args:
        record: Record of the run.
    """
    rows = []
    for file in record.files:
        rows += [_run_row(file, file.host, run) for run in file.emulated if file.host is not None]
        if file.left_out:
            reason = f"not executed: {file.left_out}"
            rows.append([file.file, file.precision, reason, *[""] * 6])
    return f"{Table(heads=_HEAD, rows=rows).markdown()}\n\n{_foot(record)}\n"


def _run_row(file: FileRecord, host: HostRun, run: EmulatedRun) -> list[str]:
    first = [file.file, file.precision, run.processor.value]
    if run.error:
        return [*first, f"**{run.error}**", "", "", "", "**no**", ""]
    figures = (
        f"{largest_difference(run.scores, host.scores):.1e}",
        f"{largest_difference(run.scores, file.golden):.1e}",
        f"{largest_difference(host.scores, file.golden):.1e}",
        f"{file.tolerance:g}",
    )
    verdict = "yes" if file.is_within(run) else "**no**"
    return [*first, *figures, verdict, f"`{(run.sha256 or '')[:12]}`"]


def _foot(record: ArmRecord) -> str:
    runtimes = sorted({run.runtime for file in record.files for run in file.emulated} - {""})
    here = sorted({file.host.runtime for file in record.files if file.host} - set(runtimes))
    features = "; ".join(
        f"{record.options[processor]} {_features(record, processor)}"
        for processor in record.features
    )
    return (
        f"{len(record.cases)} golden cases, tensor → score, one thread. {', '.join(runtimes)}"
        f"{' (here ' + ', '.join(here) + ')' if here else ''}; {record.qemu}, on {record.host}. "
        f"Of the instructions by which runtimes choose kernels: {features}."
    )


def _features(record: ArmRecord, processor: Processor) -> str:
    return " ".join(f for f in _CHOOSING if f in record.features[processor]) or "none"
