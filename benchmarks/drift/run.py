"""How far each file's scores are from the float reference's, on the same images.

Every figure comes from two score records, each with the sha256 of what it executed, and from
nothing else: a metric of one file is never taken from another.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import DataError, ImageError
from edgefiqa.files import staged_path
from edgefiqa.measuring.figures import PairedScores, measure_figures
from edgefiqa.measuring.image_source import ImageSource
from edgefiqa.measuring.records import (
    DriftRecord,
    ImagesRecord,
    ScoreRecord,
    SliceFigures,
    WorstImage,
)
from edgefiqa.measuring.run_directory import Run, save_record
from edgefiqa.measuring.slices import ALL, Slice, SliceRules, list_slices

__all__ = ["DriftRules", "aligned_scores", "measure_drift", "measure_run", "write_thumbnails"]

_THUMBNAIL = 160


@dataclass(frozen=True, kw_only=True)
class DriftRules:
    """How drift is measured.

    Attributes:
        threshold: The app's: a score of at least this is accepted. None counts no flips.
        resamples: Number of resamples of each bootstrap; whole clusters are drawn.
        confidence: Confidence level of the intervals.
        seed: Seed of the resampling.
        worst: Images named in the record.
        slices: Where slices begin.
    """

    threshold: float | None = None
    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    worst: int = 12
    slices: SliceRules = field(default_factory=SliceRules)


def aligned_scores(record: ScoreRecord, images: ImagesRecord) -> NDArray[np.float64]:
    """Return a record's scores in the order of the images, nan where one has none.

    Raises:
        DataError: The record is of other images.
    """
    if record.images.sha256 != images.identity.sha256:
        what = "these scores are of other images"
        raise DataError(what, value=record.executed.cell, next_step="score the images again")
    keys = [entry.key for entry in record.scores]
    if keys != [fact.key for fact in images.images]:
        raise DataError("these scores have other keys than the images", value=record.executed.cell)
    return np.array([np.nan if e.score is None else e.score for e in record.scores], np.float64)


def measure_drift(
    record: ScoreRecord, reference: ScoreRecord, images: ImagesRecord, rules: DriftRules
) -> DriftRecord:
    """Measure one file against the reference.

    Args:
        record: The file's scores.
        reference: The float reference's scores.
        images: The images of both.
        rules: How.

    Returns:
        The record; figures that are undefined say why.

    Raises:
        DataError: The two are not of these images.
    """
    scores, floats = aligned_scores(record, images), aligned_scores(reference, images)
    labels = np.array([np.nan if f.label is None else f.label for f in images.images], np.float64)
    both = np.isfinite(scores) & np.isfinite(floats)
    slices = list_slices(images, rules.slices)

    def figures_on(part: Slice) -> SliceFigures:
        rows = part.rows & both
        pairs = PairedScores(scores[rows], floats[rows], labels[rows], threshold=rules.threshold)
        clusters = [images.images[row].cluster for row in np.flatnonzero(rows)]
        figures = measure_figures(
            pairs,
            clusters,
            resamples=rules.resamples,
            seed=rules.seed,
            confidence=rules.confidence,
            with_krcc=part.name == ALL,
        )
        counts = {"n": pairs.n, "n_labelled": pairs.n_labelled, "clusters": len(set(clusters))}
        return SliceFigures(rule=part.rule, figures=figures, **counts)

    return DriftRecord(
        executed=record.executed,
        reference=reference.executed,
        images=images.identity,
        failed=int((~both).sum()),
        threshold=rules.threshold,
        resamples=rules.resamples,
        confidence=rules.confidence,
        seed=rules.seed,
        slices={part.name: figures_on(part) for part in slices},
        worst=_worst(scores, floats, images, slices, rules.worst),
    )


def _worst(
    scores: NDArray[np.float64],
    floats: NDArray[np.float64],
    images: ImagesRecord,
    slices: Sequence[Slice],
    count: int,
) -> tuple[WorstImage, ...]:
    error = scores - floats
    size = np.where(np.isfinite(error), np.abs(error), -1.0)
    rows = [int(row) for row in np.argsort(-size, kind="stable")[:count] if size[row] >= 0]
    return tuple(
        WorstImage(
            key=images.images[row].key,
            score=float(scores[row]),
            reference=float(floats[row]),
            error=float(error[row]),
            slices=tuple(part.name for part in slices if part.name != ALL and part.rows[row]),
        )
        for row in rows
    )


def measure_run(
    run: Run, rules: DriftRules, *, source: ImageSource | None = None
) -> Iterator[DriftRecord]:
    """Measure every file of a run against its reference, and write the records.

    Args:
        run: Its score records.
        rules: How.
        source: The images, for thumbnails of the worst; None writes none.

    Yields:
        The records as written.

    Raises:
        DataError: The run has no images or no reference.
    """
    reference = run.reference
    if run.images is None or reference is None:
        next_step = "score the reference too: see the failures of this run"
        raise DataError("there is nothing to compare with", value=run.path, next_step=next_step)
    for record in run.scores:
        if record.is_reference:
            continue
        drift = measure_drift(record, reference, run.images, rules)
        if source is not None:
            names = write_thumbnails(source, [worst.key for worst in drift.worst], run.path)
            worst = [w.model_copy(update={"thumbnail": names.get(w.key)}) for w in drift.worst]
            drift = drift.model_copy(update={"worst": tuple(worst)})
        save_record(run.path, drift)
        yield drift


def write_thumbnails(source: ImageSource, keys: Sequence[str], run: Path) -> dict[str, str]:
    """Write small pictures of images, for the report.

    Args:
        source: The images.
        keys: Which of them.
        run: The run directory.

    Returns:
        Key to the file's path in the run directory; an image that cannot be read has none.
    """
    rows = {key: row for row, key in enumerate(source.keys)}
    written = {}
    for key in keys:
        name = f"thumbnails/{source.identity[:12]}-{rows[key]:06d}.jpg"
        target = run / name
        if not target.exists():
            try:
                photo = source.photo(rows[key])
            except ImageError:
                continue
            # A view for people: scorers never see it, so it may be made the quick way.
            photo.thumbnail((_THUMBNAIL, _THUMBNAIL))
            with staged_path(target) as stage:
                photo.save(stage, quality=80)
        written[key] = name
    return written
