"""The report's pictures: SVG that is readable on a light and on a dark page, and on a phone.

Text and axes take the colour of the text around them (``currentColor``); what carries meaning has
colours that stand out on both.
"""

import html
import io
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.measuring.records import WaterfallRecord

__all__ = [
    "Bar",
    "Point",
    "drift_histogram",
    "latency_bars",
    "pareto_chart",
    "score_scatter",
    "waterfall_chart",
]

_INK = "#010203"  # stands for the colour of the text; replaced in the SVG
_BLUE, _ORANGE, _TEAL, _GREY = "#3b82c4", "#d97706", "#16a37f", "#808080"
_WIDTH = 4.3  # inches, 413 CSS pixels: scaled to a phone, 10 points stay about 9
_CLOSE = 0.06  # of the axis: nearer points share a label
_MANY = 600  # above, points become pixels: thousands of paths make a page slow
_STYLE = (
    "<style>.edgefiqa-chart{color:#1f2328}@media (prefers-color-scheme:dark)"
    "{.edgefiqa-chart{color:#e6e8eb}}</style>"
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One latency.

    Attributes:
        name: Name of the row.
        value: Median in milliseconds.
        low: Lower end of its interval.
        high: Upper end.
    """

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """One file in the plane of cost and quality.

    Attributes:
        number: The file's row in the summary.
        size_mb: Size in MB of the file.
        quality: A rank correlation.
        latency_ms: Median; None where it was not measured.
        best: Whether no other file is at least as good in all and better in one.
    """

    number: int
    size_mb: float
    quality: float
    latency_ms: float | None
    best: bool


def _draw(paint: Callable[[Any], object], height: float, title: str) -> str:
    """Paint one figure and return it as SVG that scales to its container."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "edgefiqa",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.limits": (-3, 4),
        "axes.formatter.use_mathtext": False,
        "grid.color": _GREY,
        "grid.alpha": 0.3,
        "legend.frameon": False,
    }
    for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
        style[name] = _INK
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        about = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, dpi=160, metadata=about)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several drawings share one page: their ids must not meet.
    tag = f"c{zlib.crc32((title + svg).encode()):08x}"
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{tag}-", svg)
    root, _, rest = svg.partition(">")
    root = re.sub(r' (width|height)="[^"]*"', "", root)
    label = html.escape(title)
    root = root.replace("<svg", f'<svg class="edgefiqa-chart" role="img" aria-label="{label}"')
    return f"{root}>{_STYLE}{rest}"


def _shorten(name: str, length: int = 34) -> str:
    return name if len(name) <= length else f"{name[: length // 2]}…{name[1 - length // 2 :]}"


def latency_bars(bars: Sequence[Bar]) -> str:
    """Draw median latencies with their intervals, one bar a row."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        places = np.arange(len(bars))[::-1]
        values = np.array([bar.value for bar in bars])
        ends = np.array([[bar.value - bar.low, bar.high - bar.value] for bar in bars]).T
        axes.barh(places, values, 0.55, color=_BLUE)
        axes.errorbar(values, places, xerr=ends, fmt="none", ecolor=_INK, capsize=3)
        for place, bar in zip(places, bars, strict=True):
            axes.text(0, place + 0.34, _shorten(bar.name, 56), va="bottom", fontsize=9)
            axes.annotate(  # beside the whisker's cap, at any width
                f"{bar.value:.2f}",
                (bar.high, place),
                (6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.set_yticks([])
        axes.set_ylim(-0.6, len(bars) - 0.1)
        axes.set_xlim(0, 1.18 * max(bar.high for bar in bars))
        axes.set_xlabel("median of one inference, ms")
        axes.grid(axis="x")

    return _draw(paint, 0.75 + 0.55 * len(bars), "Latency of each file, with intervals")


def _cost(point: Point) -> float:
    return point.size_mb if point.latency_ms is None else point.latency_ms


def _labels(points: Sequence[Point]) -> list[tuple[float, float, str]]:
    """Name points that lie on each other together: x, y and their numbers."""
    places = np.array([(_cost(point), point.quality) for point in points])
    span = np.array([places[:, 0].max(), np.ptp(places[:, 1])])
    close = np.abs(places[:, None] - places[None]) <= _CLOSE * np.where(span > 0, span, 1)
    found: dict[int, list[int]] = {}
    for row, first in enumerate(close.all(axis=2).argmax(axis=1)):
        found.setdefault(int(first), []).append(row)
    return [
        (*places[rows].mean(axis=0).tolist(), ", ".join(str(points[row].number) for row in rows))
        for rows in found.values()
    ]


def pareto_chart(points: Sequence[Point], quality: str) -> str:
    """Draw quality against latency (against size where there is none), area by size.

    Args:
        points: The files.
        quality: What the quality is, for the axis.
    """
    timed = [point for point in points if point.latency_ms is not None]
    shown = timed or points

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        largest = max(point.size_mb for point in shown) or 1.0
        for point in shown:
            x = _cost(point)
            area = 30 + 260 * point.size_mb / largest
            edge = _INK if point.best else "none"
            axes.scatter(
                x,
                point.quality,
                area,
                color=_TEAL if point.best else _GREY,
                edgecolor=edge,
                alpha=0.75,
            )
        for place, (x, y, numbers) in enumerate(_labels(shown)):
            axes.annotate(
                numbers,
                (x, y),
                (0, 9 if place % 2 else -16),
                textcoords="offset points",
                fontsize=9,
                ha="center",
            )
        axes.set_xlabel("median of one inference, ms" if timed else "size of the file, MB")
        axes.set_ylabel(quality)
        axes.ticklabel_format(axis="y", useOffset=False, style="plain")
        axes.margins(0.15)
        axes.set_xlim(left=0)
        axes.grid()

    return _draw(paint, 3.0, f"Size, {quality} and latency of each file")


def score_scatter(
    reference: NDArray[np.float64],
    scores: NDArray[np.float64],
    name: str,
    threshold: float | None = None,
) -> str:
    """Draw a file's scores against the float reference's, with the line of no drift."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        both = np.concatenate([reference, scores])
        ends = (both.min(), both.max()) if np.ptp(both) else (both[0] - 0.5, both[0] + 0.5)
        axes.plot(ends, ends, color=_ORANGE, linewidth=1)
        axes.scatter(reference, scores, 7, color=_BLUE, alpha=0.6, rasterized=len(scores) > _MANY)
        if threshold is not None and ends[0] <= threshold <= ends[1]:
            axes.axhline(threshold, color=_INK, linewidth=0.7, linestyle=":")
            axes.axvline(threshold, color=_INK, linewidth=0.7, linestyle=":")
        axes.set_xlabel("float score")
        axes.set_ylabel("score of this file")
        axes.grid()

    return _draw(paint, 3.2, f"Scores of {name} against the float model's")


def _in_powers(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Scale tiny values by a power of ten, and say so in words for the axis."""
    largest = float(np.abs(values).max())
    power = 0 if largest == 0 or largest >= 1e-2 else int(np.floor(np.log10(largest)))
    return values / 10.0**power, f", 1e{power}" if power else ""


def drift_histogram(error: NDArray[np.float64], name: str) -> str:
    """Draw how the difference to the float reference is distributed."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        bins = min(40, max(5, int(np.sqrt(len(error)) * 2)))
        scaled, unit = _in_powers(error)
        axes.hist(scaled, bins=bins if np.ptp(scaled) else 1, color=_BLUE)
        axes.axvline(0, color=_ORANGE, linewidth=1)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"score − float score{unit}")
        axes.set_ylabel("images")
        axes.grid(axis="y")

    return _draw(paint, 2.4, f"Drift of {name}")


def waterfall_chart(record: WaterfallRecord) -> str:
    """Draw a waterfall: signed means, which add up; below, mean and p99 of the magnitudes."""
    steps = (*record.steps, record.total)

    def paint(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharey=True)
        places = np.arange(len(steps))[::-1]
        names = [_shorten(step.stage, 18) for step in steps]
        change, unit = _in_powers(np.array([step.bias for step in steps]))
        start = np.r_[0, np.cumsum(change[:-1])]
        start[-1] = 0  # the total stands by itself
        colours = [_TEAL if value >= 0 else _ORANGE for value in change]
        colours[-1] = _BLUE
        upper.barh(places, change, 0.6, left=start, color=colours)
        ends = start + change
        for index in range(len(steps) - 2):
            line = [places[index] + 0.3, places[index + 1] - 0.3]
            upper.plot([ends[index]] * 2, line, color=_INK, linewidth=0.6)
        upper.axvline(0, color=_INK, linewidth=0.8)
        upper.use_sticky_edges = False  # the axis goes beyond zero, so that zero has its label
        upper.set_yticks(places, names)
        upper.locator_params(axis="x", nbins=5)
        upper.set_xlabel(f"mean of score after − before{unit}; adds up")
        upper.grid(axis="x")
        mean = np.array([step.mean_error for step in steps])
        tail = np.array([step.p99_error for step in steps])
        lower.hlines(places, mean, tail, color=_GREY, linewidth=1)
        lower.plot(mean, places, "o", color=_BLUE, label="mean |Δ|")
        lower.plot(tail, places, "D", color=_ORANGE, markersize=5, label="p99 |Δ|")
        positive = np.concatenate([mean, tail])
        positive = positive[positive > 0]
        if positive.size == 2 * len(steps):
            lower.set_xscale("log")
            # Whole decades: labels between them would overlap on a phone.
            powers = np.log10(positive)
            lower.set_xlim(10 ** np.floor(powers.min()), 10 ** np.ceil(powers.max() + 0.1))
            lower.xaxis.set_minor_formatter("")
        elif positive.size:  # a stage that changed nothing has a place at zero
            lower.set_xscale("symlog", linthresh=positive.min())
        lower.set_xlabel("|score after − before|")
        lower.grid(axis="x")
        lower.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2, fontsize=9)

    return _draw(paint, 1.9 + 0.5 * len(steps), f"Drift waterfall of {record.name}")
