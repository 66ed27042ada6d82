"""One report of a run, for people: HTML in one file without network, Markdown, and JSON.

::

    run directory ──report_content──▶ tables and texts ──▶ report.html, report.md, report.json

Every number comes from a record, and the provenance table names the bytes behind it.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks.drift.waterfall import waterfall_table
from edgefiqa.benchmarks.latency.summary import LatencyOutcome
from edgefiqa.benchmarks.latency.table import latency_rows
from edgefiqa.benchmarks.report import charts
from edgefiqa.benchmarks.report.data import (
    Row,
    pareto_points,
    quality_name,
    shown_files,
    summary_rows,
    time_latency,
)
from edgefiqa.benchmarks.report.tables import (
    Table,
    latency_table,
    layers_table,
    provenance_table,
    slices_table,
    summary_table,
)
from edgefiqa.errors import MissingExtraError
from edgefiqa.files import write_text
from edgefiqa.measuring.gate import Verdict, check_gate, verdict_line
from edgefiqa.measuring.paired_ratios import CONFIDENCE
from edgefiqa.measuring.policy import Policy
from edgefiqa.measuring.records import DriftRecord
from edgefiqa.measuring.run_directory import Run

__all__ = ["Report", "report_content", "write_report"]

_TEMPLATE = "report.html.j2"
_NEGATIVE = re.compile(r"(?:(?<![\w.])|(?<=\de))-(?=[\d.])")


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


def report_content(run: Run, *, policy: Policy | None = None) -> Report:
    """Put a run's records into tables.

    Args:
        run: The records.
        policy: Rules to apply; None shows no gate.

    Returns:
        The content.
    """
    rows = summary_rows(run)
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
        latency=latency_table(run),
        layers=layers_table(run),
        slices=slices_table(run),
        provenance=provenance_table(rows, run),
        provenance_notes=_provenance_notes(run),
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


def _provenance_notes(run: Run) -> list[str]:
    notes = []
    for record in run.drift[:1]:
        notes.append(
            f"Intervals: {100 * record.confidence:.0f} %, percentile bootstrap over "
            f"{record.slices['all'].clusters} independent photographs, {record.resamples} "
            f"resamples, seed {record.seed}, paired with the float model."
        )
        if record.threshold is not None:
            notes.append(f"A score of at least {record.threshold:g} counts as accepted.")
    if any(row.ratio for row in latency_rows(run.latency)):
        notes.append(
            "Time / float file: paired within the run, against the fp32 file of the format; above "
            f"1 is slower; {CONFIDENCE:.0%} intervals over its rounds."
        )
    for host in dict.fromkeys(_host(latency_record) for latency_record in run.latency):
        notes.append(host)
    if run.images is not None:
        notes.append(f"Images: sha256 {run.images.identity.sha256}.")
    return notes


def _host(record: Any) -> str:
    host = record.host
    load = f", load {host.load_1min:g}" if host.load_1min is not None else ""
    return f"{record.device}: {host.processor}, {host.cores} cores, {host.system}{load}."


def write_report(run: Run, out: Path, *, policy: Policy | None = None) -> list[Path]:
    """Write ``report.html``, ``report.md`` and ``report.json``.

    Args:
        run: The records.
        out: The folder to write to.
        policy: Rules to apply; None shows no gate.

    Returns:
        The three files.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    content = report_content(run, policy=policy)
    texts = {
        "report.html": _html(content, run),
        "report.md": _markdown(content, run),
        "report.json": json.dumps(_json(content, run), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def _json(content: Report, run: Run) -> dict[str, Any]:
    drift = [record.model_dump(mode="json", exclude={"worst"}) for record in run.drift]
    return {
        "schema_version": 1,
        **asdict(content),
        "drift": drift,
        "waterfalls": [waterfall.model_dump(mode="json") for waterfall in run.waterfalls],
    }


def _markdown(content: Report, run: Run) -> str:
    parts = [f"# {content.title}", content.caption, *content.notes]
    if content.verdicts:
        lines = "\n".join(f"- {verdict_line(verdict)}" for verdict in content.verdicts)
        parts += [f"## Gate: {content.policy}", lines]
    parts += ["## Summary", content.summary.markdown()]
    if content.failures:
        heads = ["file", "runtime", "why"]
        parts += ["## Not measured", Table(heads=heads, rows=content.failures).markdown()]
    if content.latency.rows:
        parts += ["## Latency", content.latency.markdown()]
    for record in run.waterfalls:
        parts += [f"## Drift waterfall: {record.name}", waterfall_table(record)]
    if content.layers.rows:
        parts += ["## Layers", content.layers.markdown()]
    if content.slices.rows:
        parts += ["## Slices", content.slices.markdown()]
    parts += ["## Provenance", content.provenance.markdown(), *content.provenance_notes]
    return "\n\n".join(parts) + "\n"


def _html(content: Report, run: Run) -> str:
    try:
        import matplotlib as _  # noqa: F401
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "report") from error
    loader = PackageLoader("edgefiqa.benchmarks.report", package_path="")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page.filters["minus"] = _minus
    page.filters["breakable"] = _breakable
    return page.get_template(_TEMPLATE).render(
        **{name: getattr(content, name) for name in content.__dataclass_fields__}
        | {"gate": _gate(content.verdicts), "slices_of": _by_file(content.slices)}
        | {"charts": _charts(run), "worst_of": _worst(run)}
    )


def _minus(text: str) -> str:
    """Set the minus sign of numbers: a hyphen would let a line end after it."""
    return _NEGATIVE.sub("−", text)


def _breakable(text: str) -> Any:
    """Let long names end a line after an underscore, not inside a word."""
    from markupsafe import Markup, escape

    return escape(_minus(text)).replace("_", Markup("_<wbr>"))


def _gate(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Group verdicts by file; a file that was not measured says so once."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.subject, []).append(verdict)
    return [
        {
            "subject": subject,
            "passed": all(judged.passed for judged in group),
            "count": f"{sum(judged.passed for judged in group)} of {len(group)} rules hold",
            "rules": _rules(group),
        }
        for subject, group in groups.items()
    ]


def _rules(group: Sequence[Verdict]) -> list[dict[str, Any]]:
    details = {verdict.detail for verdict in group if verdict.value is None and not verdict.passed}
    if len(group) > 1 and len(details) == 1 and all(verdict.value is None for verdict in group):
        return [{"passed": False, "text": f"every rule: {details.pop()}"}]
    prefix = f"{group[0].subject}: "
    lines = [verdict_line(verdict).partition("  ")[2].removeprefix(prefix) for verdict in group]
    return [
        {"passed": verdict.passed, "text": line} for verdict, line in zip(group, lines, strict=True)
    ]


def _by_file(slices: Table) -> list[dict[str, Any]]:
    """Give each file a table of its own: all in one are hundreds of rows."""
    files: dict[str, list[list[str]]] = {}
    for name, *rest in slices.rows:
        files.setdefault(name, []).append(rest)
    return [{"name": name, "rows": rows} for name, rows in files.items()]


def _charts(run: Run) -> list[dict[str, Any]]:
    """Draw everything that there are numbers for."""
    from markupsafe import Markup

    rows = summary_rows(run)

    def drawing(svg: str, caption: str) -> dict[str, Any]:
        # Our own drawing; the texts in it were escaped when it was drawn.
        return {"svg": Markup(svg), "caption": caption}

    ordered = [row.record for row in latency_rows(run.latency)]
    timings = [timing for timing in map(time_latency, ordered) if timing is not None]
    bars = [
        charts.Bar(name=timing.name, value=timing.median_ms, low=timing.low_ms, high=timing.high_ms)
        for timing in timings
    ]
    points = pareto_points(rows)
    quality = "SRCC to labels" if quality_name(rows) == "srcc_labels" else "SRCC to float"
    shown = shown_files(run)
    words = "Bars: medians of all samples; whiskers: 95 % intervals of the median."
    latency = [drawing(charts.latency_bars(bars), words)] if bars else []
    words = "Numbers: rows of the summary. Area: size. Outlined: no other file is as good in all."
    pareto = [drawing(charts.pareto_chart(points, quality), words)] if points else []
    scatters, histograms = [], []
    for record, reference, scores in shown:
        name = record.executed.cell
        picture = charts.score_scatter(reference, scores, name, record.threshold)
        scatters.append(drawing(picture, f"{name}, {record.executed.precision}"))
        picture = charts.drift_histogram(scores - reference, name)
        histograms.append(drawing(picture, f"{name}, {record.executed.precision}"))
    falls = [
        drawing(
            charts.waterfall_chart(waterfall),
            f"{waterfall.name}. Not measured: {', '.join(waterfall.not_measured) or 'nothing'}.",
        )
        for waterfall in run.waterfalls
    ]
    return [
        {"name": name, "title": title, "text": text, "drawings": drawings}
        for name, title, text, drawings in (
            ("latency", "Latency", "", latency),
            ("pareto", "Size, quality and latency", "", pareto),
            ("scatter", "Float against converted", "Line: no drift. Dots: images.", scatters),
            ("histogram", "Drift", "", histograms),
            ("waterfall", "Drift, stage by stage", "", falls),
        )
    ]


def _worst(run: Run) -> list[dict[str, Any]]:
    chosen: list[DriftRecord] = [record for record, *_ in shown_files(run)]
    return [
        {"name": record.executed.cell, "photos": [_photo(run, worst) for worst in record.worst]}
        for record in chosen
        if record.worst
    ]


def _photo(run: Run, worst: Any) -> dict[str, str]:
    image = ""
    path = run.path / worst.thumbnail if worst.thumbnail else None
    if path is not None and path.is_file():
        image = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    text = f"{worst.reference:.4f} → {worst.score:.4f} ({worst.error:+.2e})"
    text += f"; {', '.join(worst.slices)}" if worst.slices else ""
    return {"key": worst.key, "text": text, "image": image}
