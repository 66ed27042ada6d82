"""What became worse between two runs on the same images, as far as the images can tell.

Two runs are paired image by image: each resample draws the same photographs for both, so what is
common to both cancels. A figure has regressed only if the whole interval of its change lies on the
worse side; what is inside is noise, however large it looks. Latency of different runs cannot be
paired (machines drift), so it is shown and never judged.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.drift.run import aligned_scores
from edgefiqa.errors import DataError
from edgefiqa.measuring.figures import FEWEST_FOR_P99, FIGURES, Better, PairedScores, interval_of
from edgefiqa.measuring.records import (
    Figure,
    ImagesRecord,
    LatencyPhase,
    LatencyRecord,
    ScoreRecord,
)
from edgefiqa.measuring.resampling import draw_weights
from edgefiqa.measuring.run_directory import Run

__all__ = ["Change", "Trend", "change_line", "compare_runs"]

_COMPARED = (
    "srcc_labels",
    "plcc_labels",
    "krcc_labels",
    "rmse_labels",
    "srcc_reference",
    "rmse_reference",
    "mean_error",
    "p99_error",
    "bias",
    "flip_rate",
)
_KRCC_ROWS = 1500


class Trend(StrEnum):
    """What a comparison says."""

    WORSE = "regression"
    BETTER = "improvement"
    SAME = "no difference"
    MISSING = "missing"  # the new run lacks what the old one had
    NEW = "new"
    NOT_PAIRED = "not paired"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of one file in both runs.

    Attributes:
        subject: The file and its runtime.
        metric: A name of ``FIGURES``, or of a latency.
        old: In the old run.
        new: In the new run.
        change: ``new − old`` with its paired interval; of magnitudes for a bias.
        trend: The judgement.
        detail: What else there is to say.
    """

    subject: str
    metric: str = "-"
    old: float | None = None
    new: float | None = None
    change: Figure | None = None
    trend: Trend
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether this stands against the new run."""
        return self.trend in (Trend.WORSE, Trend.MISSING)


def compare_runs(
    old: Run,
    new: Run,
    *,
    resamples: int = 1000,
    confidence: float = 0.99,
    threshold: float | None = None,
    seed: int = 0,
) -> list[Change]:
    """Compare two runs, file by file.

    Args:
        old: The earlier run.
        new: The later run.
        resamples: Number of resamples of the paired bootstrap over clusters.
        confidence: Confidence level of its intervals; above 0.95, since each file has ten figures.
        threshold: Score from which a photograph is accepted; None takes the new run's.
        seed: Seed of the resampling.

    Returns:
        One change a figure; files of one run alone are named.

    Raises:
        DataError: The runs scored different images, or none.
    """
    if old.images is None or new.images is None:
        raise DataError("a run without scores cannot be compared", value=(old.path, new.path))
    if old.images.identity.sha256 != new.images.identity.sha256:
        found = f"{old.images.identity.name} and {new.images.identity.name}"
        next_step = "score the same images with both"
        raise DataError("the runs scored different images", value=found, next_step=next_step)
    if threshold is None:
        threshold = next((drift_record.threshold for drift_record in new.drift), None)
    before = {score.executed.cell: score for score in old.scores if not score.is_reference}
    after = {score.executed.cell: score for score in new.scores if not score.is_reference}
    failed = {failure.cell: failure.error for failure in new.failures}
    changes = []
    for cell, record in before.items():
        if cell not in after:
            detail = " ".join(failed.get(cell, "the new run has no record of it").split())
            changes.append(Change(subject=cell, trend=Trend.MISSING, detail=detail))
            continue
        pair = _Pair(old, new, record, after[cell], threshold)
        changes += pair.changes(resamples=resamples, confidence=confidence, seed=seed)
    changes += [Change(subject=cell, trend=Trend.NEW) for cell in after if cell not in before]
    return [*changes, *_latency(old, new)]


class _Pair:
    """One file's scores in both runs, on the images that all four scorers scored."""

    def __init__(
        self, old: Run, new: Run, before: ScoreRecord, after: ScoreRecord, threshold: float | None
    ) -> None:
        assert new.images is not None
        images, self._subject = new.images, after.executed.cell
        self._same_bytes = before.executed.sha256 == after.executed.sha256
        vectors = [aligned_scores(record, images) for record in (before, after)]
        references = [
            scores if run.reference is None else aligned_scores(run.reference, images)
            for run, scores in zip((old, new), vectors, strict=True)
        ]
        self._lost = int((np.isfinite(vectors[0]) & ~np.isfinite(vectors[1])).sum())
        rows = np.isfinite([*vectors, *references]).all(axis=0)
        self._clusters = [images.images[row].cluster for row in np.flatnonzero(rows)]
        labels = _labels(images)[rows]
        self._pairs = [
            PairedScores(vector[rows], reference[rows], labels, threshold=threshold)
            for vector, reference in zip(vectors, references, strict=True)
        ]

    def changes(self, *, resamples: int, confidence: float, seed: int) -> Iterator[Change]:
        detail = "the same bytes" if self._same_bytes else ""
        if self._lost:
            lost = f"{self._lost} images that the old run scored have no score"
            yield Change(subject=self._subject, trend=Trend.MISSING, detail=lost)
        n = self._pairs[0].n
        if not n:
            yield Change(subject=self._subject, trend=Trend.MISSING, detail="no image in common")
            return
        krcc = n <= _KRCC_ROWS
        point = [pair.on(np.ones((1, n)), with_krcc=krcc) for pair in self._pairs]
        samples: dict[str, list[NDArray[np.float64]]] = {}
        if len(set(self._clusters)) > 1:
            for weights in draw_weights(self._clusters, n=resamples, seed=seed):
                drawn = [pair.on(weights, with_krcc=krcc) for pair in self._pairs]
                for name in _COMPARED:
                    if name in drawn[0]:
                        samples.setdefault(name, []).append(_difference(name, drawn))
        for name in _COMPARED:
            if name not in point[0] or (name == "p99_error" and n < FEWEST_FOR_P99):
                continue
            difference = float(_difference(name, point)[0])
            drawn_all = np.concatenate(samples[name]) if name in samples else np.empty(0)
            values = [float(resampled[name][0]) for resampled in point]
            figure = interval_of(
                drawn_all,
                difference if math.isfinite(difference) else None,
                confidence=confidence,
                reason="" if samples else "an interval needs two clusters or more",
            )
            yield Change(
                subject=self._subject,
                metric=name,
                old=values[0] if math.isfinite(values[0]) else None,
                new=values[1] if math.isfinite(values[1]) else None,
                change=figure,
                trend=_trend(name, figure, values),
                detail=detail,
            )


def _labels(images: ImagesRecord) -> NDArray[np.float64]:
    return np.array([math.nan if f.label is None else f.label for f in images.images], np.float64)


def _difference(name: str, both: Sequence[dict[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    before, after = both[0][name], both[1][name]
    if FIGURES[name].better is Better.ZERO:
        return np.asarray(np.abs(after) - np.abs(before))
    return np.asarray(after - before)


def _trend(name: str, figure: Figure, values: Sequence[float]) -> Trend:
    if math.isfinite(values[0]) and not math.isfinite(values[1]):
        return Trend.MISSING  # a scorer that became constant has lost its correlation
    if figure.low is None or figure.high is None or figure.low <= 0 <= figure.high:
        return Trend.SAME
    rose = figure.low > 0
    return Trend.BETTER if rose == (FIGURES[name].better is Better.HIGHER) else Trend.WORSE


def _latency(old: Run, new: Run) -> Iterator[Change]:
    def name(record: LatencyRecord) -> tuple[str, str, int]:
        return record.executed.cell, record.device, record.executed.threads

    before = {name(record): record for record in old.latency}
    for record in new.latency:
        earlier = before.get(name(record))
        if earlier is None:
            continue
        medians = [
            float(np.median(drift_record.samples_ms[LatencyPhase.INFERENCE]))
            if drift_record.samples_ms.get(LatencyPhase.INFERENCE)
            else None
            for drift_record in (earlier, record)
        ]
        yield Change(
            subject=f"{record.executed.cell}, {record.device}, {record.executed.threads} threads",
            metric="median inference ms",
            old=medians[0],
            new=medians[1],
            trend=Trend.NOT_PAIRED,
            detail="measured apart: interleave both files in one run to compare their speed",
        )


def change_line(change: Change) -> str:
    """Return a change as one line."""
    parts = [f"{change.trend.value.upper()}  {change.subject}"]
    if change.metric != "-":
        parts[0] += f": {change.metric}"
    if change.old is not None and change.new is not None:
        parts.append(f"{change.old:.6g} → {change.new:.6g}")
    if change.change is not None and change.change.low is not None:
        difference = change.change
        parts.append(
            f"change {difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}]"
        )
    return "  ".join([*parts, change.detail]).rstrip()
