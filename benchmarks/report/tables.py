"""The tables of a report: texts, ready for a page, a terminal or Markdown."""

from collections.abc import Sequence

from edgefiqa.benchmarks.latency.table import LatencyRow, ratio_text, times_ms
from edgefiqa.benchmarks.report.data import Row, number, with_interval
from edgefiqa.markdown import Table
from edgefiqa.measuring.figures import FIGURES
from edgefiqa.measuring.run_directory import Run

__all__ = [
    "latency_table",
    "layers_table",
    "provenance_table",
    "slices_table",
    "summary_table",
]

_SLICE_FIGURES = ("delta_srcc", "srcc_reference", "bias", "mean_error", "p99_error", "flip_rate")


def summary_table(rows: Sequence[Row]) -> Table:
    """Return one row a cell that was measured: size, drift on all images, latency."""
    heads = ["#", "file", "runtime", "precision", "MB", "SRCC to labels", "ΔSRCC", "ΔPLCC"]
    heads += ["SRCC to float", "bias", "p99 |Δ|", "max |Δ|", "flips", "median ms"]
    lines = []
    for row in rows:
        cells = [str(row.number), row.file, row.runtime, row.precision, number(row.size_mb, ".2f")]
        if row.is_reference:
            cells += [_reference_quality(rows), *["–"] * 6, "–"]
        else:
            cells += [
                with_interval(row.figure("srcc_labels")),
                with_interval(row.figure("delta_srcc"), "+.4f"),
                with_interval(row.figure("delta_plcc"), "+.4f"),
                with_interval(row.figure("srcc_reference"), ".5f"),
                with_interval(row.figure("bias"), "+.1e"),
                with_interval(row.figure("p99_error"), ".1e"),
                with_interval(row.figure("max_error"), ".1e"),
                _flips(row),
            ]
        cells.append(_timing(row))
        lines.append(cells)
    return Table(heads=heads, rows=lines)


def _reference_quality(rows: Sequence[Row]) -> str:
    """The float model's agreement, as every drift record repeats it."""
    found = (row.figure("reference_srcc_labels") for row in rows)
    return next((with_interval(figure) for figure in found if figure), "–")


def _flips(row: Row) -> str:
    parts = [row.figure(name) for name in ("flips", "flips_to_accept", "flips_to_reject")]
    if any(part is None or part.value is None for part in parts):
        return "–"
    total, up, down = (int(part.value) for part in parts if part and part.value is not None)
    return f"{total} (+{up} −{down})" if total else "0"


def _timing(row: Row) -> str:
    timing = row.timing
    return (
        "–"
        if timing is None
        else f"{timing.median_ms:.2f} [{timing.low_ms:.2f}, {timing.high_ms:.2f}]"
    )


def latency_table(rows: Sequence[LatencyRow]) -> Table:
    """Return one row a file, device and number of threads."""
    heads = ["file", "device", "threads", "n", "p50 ms", "p90 ms", "p99 ms", "mean ms", "IQR ms"]
    heads += ["load ms", "first ms", "peak MB", "time / float file"]
    lines = []
    for row in rows:
        record = row.record
        peak = f"{record.peak_rss_bytes / 1e6:.0f}" if record.peak_rss_bytes else "–"
        cells = [
            record.executed.cell,
            record.device,
            str(record.executed.threads),
            str(row.inference.n),
        ]
        lines.append([*cells, *times_ms(row), peak, ratio_text(row.ratio)])
    return Table(heads=heads, rows=lines)


def layers_table(run: Run) -> Table:
    """Return one row a file whose layers were compared."""
    heads = ["file", "against", "layers", "worst layer", "its SNR, dB", "first wrong layer"]
    lines = []
    for record in run.layers:
        rated = [layer for layer in record.layers if layer.snr_db is not None]
        worst = min(rated, key=lambda layer: layer.snr_db or 0.0, default=None)
        bound = f"below {record.min_snr_db:g} dB"
        lines.append(
            [
                record.executed.cell,
                record.reference.cell,
                str(len(record.layers)),
                worst.name if worst else "none differs",
                number(worst.snr_db if worst else None, ".1f"),
                f"{record.first_wrong}, {bound}" if record.first_wrong else f"none {bound}",
            ]
        )
    return Table(heads=heads, rows=lines)


def slices_table(run: Run) -> Table:
    """Return one row a file and slice."""
    heads = ["file", "slice", "images", *(FIGURES[name].title for name in _SLICE_FIGURES)]
    lines = []
    for record in run.drift:
        for name, part in record.slices.items():
            figures = [part.figures.get(figure) for figure in _SLICE_FIGURES]
            forms = ("+.4f", ".5f", "+.1e", ".1e", ".1e", ".4f")
            cells = [with_interval(f, form) for f, form in zip(figures, forms, strict=True)]
            lines.append([record.executed.cell, f"{name}: {part.rule}", str(part.n), *cells])
    return Table(heads=heads, rows=lines)


def provenance_table(rows: Sequence[Row], run: Run) -> Table:
    """Return one row a cell: the bytes and what ran them."""
    heads = ["file", "runtime", "precision", "sha256 of what was executed"]
    lines = [[row.file, row.runtime, row.precision, row.sha256 or "nothing"] for row in rows]
    for record in run.latency:
        ran = record.executed
        lines.append([ran.file, ran.runtime_version, f"latency, {record.device}", ran.sha256])
    return Table(heads=heads, rows=lines)
