"""What a report shows, taken once from the records of a run; nothing is measured here.

::

    records ──ReportData.of──▶ rows ──▶ tables, drawings ──▶ page
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.drift.run import aligned_scores
from edgefiqa.benchmarks.latency.table import LatencyRow, latency_rows
from edgefiqa.benchmarks.report.charts import Point
from edgefiqa.manifest import PrecisionKind
from edgefiqa.measuring.records import DriftRecord, Figure, LatencyPhase, LatencyRecord, ScoreRecord
from edgefiqa.measuring.run_directory import Run
from edgefiqa.measuring.slices import ALL

__all__ = [
    "ReportData",
    "Row",
    "ShownFile",
    "Timing",
    "number",
    "pareto_points",
    "quality_name",
    "time_latency",
    "with_interval",
]

_SHOWN = 6
_DRIFTING = 1e-4  # p99 from which a difference is more than float32's rounding
_Place: TypeAlias = tuple[int, float, float, float | None]  # number, MB, quality, ms


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A latency in one line.

    Attributes:
        name: The file, its runtime, the device and threads.
        median_ms: Median time in milliseconds of one inference.
        low_ms: Lower end of the median's interval, from the order of the samples alone.
        high_ms: Upper end.
        p90_ms: 90th percentile.
        n: Samples.
        noise: Why it is not to be trusted; empty for a quiet run.
    """

    name: str
    median_ms: float
    low_ms: float
    high_ms: float
    p90_ms: float
    n: int
    noise: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file in one runtime.

    Attributes:
        number: From 1.
        file: Its name, and its twins'.
        runtime: With its version.
        precision: As the manifest has it.
        size_mb: Size.
        sha256: SHA-256 of what was executed; empty where nothing was.
        drift: Its drift on all images; None for the reference and for failures.
        timing: On the first device that was measured; None where none was.
        error: Why there are no scores; empty where there are.
        is_reference: Whether it is the float model.
    """

    number: int
    file: str
    runtime: str
    precision: str
    size_mb: float | None
    sha256: str
    drift: DriftRecord | None
    timing: Timing | None
    error: str = ""
    is_reference: bool = False

    def figure(self, name: str) -> Figure | None:
        """Return a figure on all images, if there is one."""
        return self.drift.slices[ALL].figures.get(name) if self.drift else None


def number(value: float | None, form: str = ".4f") -> str:
    """Format a number; an en dash where there is none."""
    return "–" if value is None else format(value, form)


def with_interval(figure: Figure | None, form: str = ".4f") -> str:
    """Format a figure with its interval."""
    if figure is None or figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return format(figure.value, form)
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def time_latency(record: LatencyRecord) -> Timing | None:
    """Summarise a latency record; None if it has no sample of an inference."""
    samples = np.sort(record.samples_ms.get(LatencyPhase.INFERENCE, ()))
    if not len(samples):
        return None
    # The ranks between which the median lies with 95 %, whatever the distribution.
    half = 0.98 * math.sqrt(len(samples))
    low = max(0, math.floor(len(samples) / 2 - half))
    high = min(len(samples) - 1, math.ceil(len(samples) / 2 + half))
    executed = record.executed
    threads = f"{executed.threads} thread{'s' * (executed.threads > 1)}"
    return Timing(
        name=f"{executed.cell}, {record.device}, {threads}",
        median_ms=float(np.median(samples)),
        low_ms=float(samples[low]),
        high_ms=float(samples[high]),
        p90_ms=float(np.quantile(samples, 0.9)),
        n=len(samples),
        noise=record.noise or "",
    )


def _rows(run: Run) -> list[Row]:
    """List every cell of a run: the reference, what was scored or timed, what failed."""
    drift = {drift_record.executed.cell: drift_record for drift_record in run.drift}
    timings: dict[str, LatencyRecord] = {}
    for timing in run.latency:
        timings.setdefault(timing.executed.cell, timing)
    scored = sorted(run.scores, key=lambda score_record: not score_record.is_reference)
    cells: list[ScoreRecord | LatencyRecord] = [*scored]
    seen = {score_record.executed.cell for score_record in scored}
    cells += [record for cell, record in timings.items() if cell not in seen]
    rows = []
    for place, record in enumerate(cells, start=1):
        executed = record.executed
        timed = timings.get(executed.cell)
        rows.append(
            Row(
                number=place,
                file=", ".join(name for name, _ in executed.names),
                runtime=executed.runtime_version,
                precision=" / ".join(dict.fromkeys(precision for _, precision in executed.names)),
                size_mb=executed.size_bytes / 1e6,
                sha256=executed.sha256,
                drift=drift.get(executed.cell),
                # A time of other bytes is no time of these.
                timing=time_latency(timed)
                if timed and timed.executed.sha256 == executed.sha256
                else None,
                is_reference=isinstance(record, ScoreRecord) and record.is_reference,
            )
        )
    for failure in run.failures:
        rows.append(
            Row(
                number=len(rows) + 1,
                file=", ".join(name for name, _ in failure.names),
                runtime=failure.runtime,
                precision=failure.precision,
                size_mb=None,
                sha256=failure.sha256 or "",
                drift=None,
                timing=None,
                error=failure.error,
            )
        )
    return rows


def quality_name(rows: Sequence[Row]) -> str:
    """Return the figure that files are ranked by: SRCC to labels if there are any."""
    labelled = any((f := row.figure("srcc_labels")) and f.value is not None for row in rows)
    return "srcc_labels" if labelled else "srcc_reference"


def pareto_points(rows: Sequence[Row]) -> list[Point]:
    """Return the files in the plane of cost and quality, with the ones that nothing beats."""
    name = quality_name(rows)
    found: list[_Place] = []
    for row in rows:
        figure = row.figure(name)
        if figure is None or figure.value is None or row.size_mb is None:
            continue
        latency = row.timing.median_ms if row.timing else None
        found.append((row.number, row.size_mb, figure.value, latency))

    def beats(a: _Place, b: _Place) -> bool:
        costs = [(a[1], b[1]), (-a[2], -b[2])]
        if a[3] is not None and b[3] is not None:
            costs.append((a[3], b[3]))
        return all(x <= y for x, y in costs) and any(x < y for x, y in costs)

    return [
        Point(
            number=place[0],
            size_mb=place[1],
            quality=place[2],
            latency_ms=place[3],
            best=not any(beats(other, place) for other in found),
        )
        for place in found
    ]


@dataclass(frozen=True, kw_only=True)
class ShownFile:
    """A file whose scores are drawn.

    Attributes:
        record: Its drift.
        reference: The float model's scores ``[n]``, on the images that both scored.
        scores: The file's scores ``[n]``.
    """

    record: DriftRecord
    reference: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def is_quantised(self) -> bool:
        """Whether it computes in 8 bits, wholly or in part."""
        return self.record.executed.precision_kind is PrecisionKind.QUANTISED

    @property
    def p99_error(self) -> float:
        """99th percentile of the absolute errors."""
        return self.record.slices[ALL].figures["p99_error"].value or 0.0


def _shown_files(run: Run) -> list[ShownFile]:
    """Choose the files whose scores are drawn, each hash once: 8-bit first, then by p99.

    Files that differ by rounding alone are left out, unless there is no other.
    """
    if run.images is None or run.reference is None:
        return []
    scores = {score.executed.cell: score for score in run.scores}
    reference = aligned_scores(run.reference, run.images)
    files = []
    for record in run.drift:
        scored = scores.get(record.executed.cell)
        if scored is None or scored.executed.sha256 != record.executed.sha256:
            continue
        values = aligned_scores(scored, run.images)
        both = np.isfinite(values) & np.isfinite(reference)
        if both.any():
            files.append(ShownFile(record=record, reference=reference[both], scores=values[both]))
    files.sort(key=lambda file: (not file.is_quantised, -file.p99_error))
    drifting = {
        file.record.executed.sha256
        for file in files
        if file.is_quantised or file.p99_error >= _DRIFTING
    }
    once: dict[str, ShownFile] = {}
    for file in files:
        once.setdefault(file.record.executed.sha256, file)
    return [file for sha256, file in once.items() if sha256 in drifting][:_SHOWN] or files[:1]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that tables, drawings and page read, each thing computed once.

    Attributes:
        run: The records.
        rows: One a cell: the reference, what was scored or timed, what failed.
        latency: One a file, device and number of threads that was timed.
        shown: The files whose scores are drawn.
    """

    run: Run
    rows: tuple[Row, ...]
    latency: tuple[LatencyRow, ...]
    shown: tuple[ShownFile, ...]

    @classmethod
    def of(cls, run: Run) -> Self:
        """Take what a report shows from a run's records."""
        return cls(
            run=run,
            rows=tuple(_rows(run)),
            latency=tuple(latency_rows(run.latency)),
            shown=tuple(_shown_files(run)),
        )
