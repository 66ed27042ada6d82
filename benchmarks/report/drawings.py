"""The report's drawings and its worst photographs, made of what the report shows."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgefiqa.benchmarks.report import charts
from edgefiqa.benchmarks.report.data import (
    ReportData,
    ShownFile,
    pareto_points,
    quality_name,
    time_latency,
)
from edgefiqa.measuring.records import WorstImage

__all__ = ["draw", "worst_photographs"]


def draw(data: ReportData) -> list[dict[str, Any]]:
    """Draw everything that there are numbers for.

    Args:
        data: What the report shows.

    Returns:
        One section a kind of chart: name, title, text, and its drawings (SVG and caption).
    """
    sections = (
        ("latency", "Latency", "", _latency(data)),
        ("pareto", "Size, quality and latency", "", _pareto(data)),
        (
            "scatter",
            "Float against converted",
            "Line: no drift. Dots: images.",
            _scatters(data.shown),
        ),
        ("histogram", "Drift", "", _histograms(data.shown)),
        ("waterfall", "Drift, stage by stage", "", _waterfalls(data)),
    )
    return [
        {"name": name, "title": title, "text": text, "drawings": drawings}
        for name, title, text, drawings in sections
    ]


def _drawing(svg: str, caption: str) -> dict[str, Any]:
    from markupsafe import Markup

    # Drawn here; the texts in it were escaped when it was drawn.
    return {"svg": Markup(svg), "caption": caption}


def _latency(data: ReportData) -> list[dict[str, Any]]:
    timings = [timing for row in data.latency if (timing := time_latency(row.record)) is not None]
    bars = [
        charts.Bar(name=timing.name, value=timing.median_ms, low=timing.low_ms, high=timing.high_ms)
        for timing in timings
    ]
    words = "Bars: medians of all samples; whiskers: 95 % intervals of the median."
    return [_drawing(charts.latency_bars(bars), words)] if bars else []


def _pareto(data: ReportData) -> list[dict[str, Any]]:
    points = pareto_points(data.rows)
    quality = "SRCC to labels" if quality_name(data.rows) == "srcc_labels" else "SRCC to float"
    words = "Numbers: rows of the summary. Area: size. Outlined: no other file is as good in all."
    return [_drawing(charts.pareto_chart(points, quality), words)] if points else []


def _scatters(shown: Sequence[ShownFile]) -> list[dict[str, Any]]:
    return [
        _drawing(
            charts.score_scatter(
                file.reference, file.scores, file.record.executed.cell, file.record.threshold
            ),
            _caption(file),
        )
        for file in shown
    ]


def _histograms(shown: Sequence[ShownFile]) -> list[dict[str, Any]]:
    return [
        _drawing(
            charts.drift_histogram(file.scores - file.reference, file.record.executed.cell),
            _caption(file),
        )
        for file in shown
    ]


def _caption(file: ShownFile) -> str:
    return f"{file.record.executed.cell}, {file.record.executed.precision}"


def _waterfalls(data: ReportData) -> list[dict[str, Any]]:
    return [
        _drawing(
            charts.waterfall_chart(waterfall),
            f"{waterfall.name}. Not measured: {', '.join(waterfall.not_measured) or 'nothing'}.",
        )
        for waterfall in data.run.waterfalls
    ]


def worst_photographs(data: ReportData) -> list[dict[str, Any]]:
    """Return the photographs with the largest drift of each drawn file, as data for the page."""
    return [
        {
            "name": file.record.executed.cell,
            "photos": [_photo(data.run.path, worst) for worst in file.record.worst],
        }
        for file in data.shown
        if file.record.worst
    ]


def _photo(run: Path, worst: WorstImage) -> dict[str, str]:
    image = ""
    path = run / worst.thumbnail if worst.thumbnail else None
    if path is not None and path.is_file():
        image = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    text = f"{worst.reference:.4f} → {worst.score:.4f} ({worst.error:+.2e})"
    text += f"; {', '.join(worst.slices)}" if worst.slices else ""
    return {"key": worst.key, "text": text, "image": image}
