"""What a report says: the tables and the sentences, before they are laid out."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgefiqa.benchmarks.latency.summary import LatencyOutcome
from edgefiqa.benchmarks.report.data import ReportData, Row
from edgefiqa.benchmarks.report.tables import (
    latency_table,
    layers_table,
    provenance_table,
    slices_table,
    summary_table,
)
from edgefiqa.markdown import Table
from edgefiqa.measuring.gate import Verdict, check_gate
from edgefiqa.measuring.paired_ratios import CONFIDENCE
from edgefiqa.measuring.policy import Policy
from edgefiqa.measuring.records import LatencyRecord
from edgefiqa.measuring.run_directory import Run

__all__ = ["Report", "report_content"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report says, before it is laid out.

    Attributes:
        title: Its title.
        caption: Which images, in one sentence.
        notes: What a reader must know first.
        policy: Name of the gate's policy; empty without one.
        verdicts: The gate's lines.
        summary: One row a cell.
        failures: File, runtime, and why there are no scores.
        latency: One row a file, device and number of threads.
        layers: One row a file whose layers were compared.
        slices: One row a file and slice.
        provenance: One row a cell: the bytes and what ran them.
        provenance_notes: Rules of the measurement.
    """

    title: str
    caption: str
    notes: list[str]
    policy: str
    verdicts: list[Verdict]
    summary: Table
    failures: list[list[str]]
    latency: Table
    layers: Table
    slices: Table
    provenance: Table
    provenance_notes: list[str]


def report_content(data: ReportData, *, policy: Policy | None = None) -> Report:
    """Put a run's records into tables.

    Args:
        data: What the report shows.
        policy: Rules to apply; None shows no gate.

    Returns:
        The content.
    """
    run, rows = data.run, data.rows
    caption = f"Run {run.path.name}: latency only."
    if run.images is not None:
        identity = run.images.identity
        caption = (
            f"{identity.count} images of {run.images.source}, scored at {identity.size} px; "
            f"identity {identity.sha256[:12]}; "
            + (f"labels: {run.images.label}." if run.images.label else "no labels.")
        )
    failed = [row for row in rows if row.error]
    return Report(
        title="Does the file on the device say what the trained model says?",
        caption=caption,
        notes=_notes(rows, run),
        policy=policy.name if policy else "",
        verdicts=check_gate(run, policy) if policy else [],
        summary=summary_table([row for row in rows if not row.error]),
        failures=[[row.file, row.runtime, " ".join(row.error.split())] for row in failed],
        latency=latency_table(data.latency),
        layers=layers_table(run),
        slices=slices_table(run),
        provenance=provenance_table(rows, run),
        provenance_notes=_provenance_notes(data),
    )


def _notes(rows: Sequence[Row], run: Run) -> list[str]:
    notes = []
    if run.images is not None and run.images.label is None:
        notes.append("The images have no labels: every figure is drift to the float model alone.")
    for row in rows:
        if ", " in row.file and not row.error:
            notes.append(f"One file under several names, scored once: {row.file}.")
    for latency in run.latency:
        if latency.inferences:
            notes.append(
                f"{latency.executed.cell}: each sample is the mean of "
                f"{min(latency.inferences)} or more inferences; the tool tells nothing finer."
            )
    for device in dict.fromkeys(record.device for record in run.latency):
        records = tuple(record for record in run.latency if record.device == device)
        noise = LatencyOutcome(records=records, failures=(), ratios=()).noise
        if noise:
            notes.append(f"Noisy latency run on {device}: {'; '.join(noise)}.")
    return list(dict.fromkeys(notes))


def _provenance_notes(data: ReportData) -> list[str]:
    run, notes = data.run, []
    for record in run.drift[:1]:
        notes.append(
            f"Intervals: {100 * record.confidence:.0f} %, percentile bootstrap over "
            f"{record.slices['all'].clusters} independent photographs, {record.resamples} "
            f"resamples, seed {record.seed}, paired with the float model."
        )
        if record.threshold is not None:
            notes.append(f"A score of at least {record.threshold:g} counts as accepted.")
    if any(row.ratio for row in data.latency):
        notes.append(
            "Time / float file: paired within the run, against the fp32 file of the format; above "
            f"1 is slower; {CONFIDENCE:.0%} intervals over its rounds."
        )
    for host in dict.fromkeys(_host(record) for record in run.latency):
        notes.append(host)
    if run.images is not None:
        notes.append(f"Images: sha256 {run.images.identity.sha256}.")
    return notes


def _host(record: LatencyRecord) -> str:
    host = record.host
    load = f", load {host.load_1min:g}" if host.load_1min is not None else ""
    return f"{record.device}: {host.processor}, {host.cores} cores, {host.system}{load}."
