"""How well do scorers agree with the labels of an image set's held-back photographs?

``edgefiqa study accuracy SET --model NAME=PATH … --out record.json`` compares them.

Every scorer sees the same images, those of the splits ``held_back`` and ``held_out_types``. Writes
the record, ``record.md`` (its tables) and ``record.scores.csv`` (every score, so that every figure
can be computed again). A scorer that fails becomes a row that says so; the others finish.
"""

import csv
import io
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.studies.accuracy.agreement import (
    Agreement,
    Group,
    list_groups,
    measure_agreement,
)
from edgefiqa.benchmarks.studies.accuracy.baselines import NOT_OFFLINE
from edgefiqa.benchmarks.studies.accuracy.candidates import (
    Candidate,
    Kind,
    Speed,
    open_baseline,
    open_model,
    score_rows,
    time_candidates,
)
from edgefiqa.benchmarks.studies.accuracy.records import (
    AccuracyProtocol,
    AccuracyRecord,
    AccuracySet,
    AgreementFigures,
    GroupCounts,
    IntervalFigure,
    ScorerRecord,
    ScorerSpeed,
)
from edgefiqa.benchmarks.studies.accuracy.table import accuracy_tables
from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import DataError, UsageError
from edgefiqa.files import write_text
from edgefiqa.measuring.machine import package_versions, processor_name
from edgefiqa.metrics import Interval

__all__ = ["Protocol", "compare", "write_comparison"]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], object]

_PACKAGES = ("torch", "timm", "numpy", "scipy", "pillow", "brisque", "scikit-video")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the comparison is made.

    Attributes:
        resamples: Number of resamples of each bootstrap; whole clusters are drawn.
        batch: Images a forward pass, where only the score counts.
        rounds: Timed images a scorer.
    """

    resamples: int = 1000
    batch: int = 16
    rounds: int = 20


@dataclass(kw_only=True)
class _Row:
    """One scorer on its way into the record."""

    name: str
    kind: Kind
    file: str | None = None
    candidate: Candidate | None = None
    scores: NDArray[np.float64] | None = None
    groups: dict[str, Agreement] = field(default_factory=dict)
    speed: Speed | None = None
    error: str | None = None

    def attempt(self, action: Callable[[], None]) -> None:
        """Run one part of this row's work; a failure ends this row alone."""
        if self.error is None:
            try:
                action()
            except Exception as fault:
                self.fail(fault)

    def fail(self, fault: Exception) -> None:
        """Turn this row into one that says why it has no figures."""
        logger.warning("%s: %s", self.name, fault, exc_info=fault)
        self.error = f"{type(fault).__name__}: {fault}"
        self.groups, self.speed, self.scores = {}, None, None


def compare(
    images: ImageSet,
    models: Sequence[tuple[str, Path]],
    *,
    baselines: Sequence[str],
    protocol: Protocol,
    on_progress: Progress = lambda _name, _done, _total: None,
) -> tuple[AccuracyRecord, str]:
    """Compare scorers on one image set.

    Args:
        images: The set; has labels, and rows that were held back.
        models: Name of the row, and what `edgefiqa.train.load_scorer` takes, or ``default``.
        baselines: Names of `edgefiqa.benchmarks.studies.accuracy.baselines.BASELINES`.
        protocol: How.
        on_progress: Told a scorer's name, how many images it scored, and of how many.

    Returns:
        The record, and the scores as CSV.

    Raises:
        DataError: No held-back row has a label.
        UsageError: Two rows have one name, or there is none.
    """
    rows = [_Row(name=name, kind=Kind.MODEL, file=path.name) for name, path in models]
    rows += [_Row(name=name, kind=Kind.BASELINE) for name in baselines]
    names = [row.name for row in rows]
    if not names or len(set(names)) != len(names):
        raise UsageError("each scorer needs a different name", value=names, allowed="1 or more")
    groups = list_groups(images)
    if not groups:
        next_step = "build a set with labels: `edgefiqa data degrade`, or `data pack` with labels"
        raise DataError("no held-back image has a label", value=images.path, next_step=next_step)
    tested = np.unique(np.concatenate([group.rows for group in groups]))
    paths, clusters = dict(models), _clusters(images)
    for row in rows:
        row.attempt(partial(_open, row, paths, images.size))
    _time(rows, images, tested, protocol)
    _score(rows, images, tested, protocol, on_progress)
    for row in rows:
        row.attempt(partial(_measure, row, images.labels, clusters, tested, groups, protocol))
    return _record(rows, images, clusters, groups, protocol), _scores_csv(rows, images, tested)


def _open(row: _Row, paths: dict[str, Path], size: int) -> None:
    if row.kind is Kind.MODEL:
        row.candidate = open_model(row.name, paths[row.name], size=size)
    else:
        row.candidate = open_baseline(row.name)


def _time(
    rows: Sequence[_Row], images: ImageSet, tested: NDArray[np.int64], protocol: Protocol
) -> None:
    by_name = {row.name: row for row in rows}
    ready = [row.candidate for row in rows if row.candidate]
    speeds = time_candidates(
        ready,
        images,
        tested,
        rounds=protocol.rounds,
        on_failure=lambda candidate, fault: by_name[candidate.name].fail(fault),
    )
    for name, speed in speeds.items():
        by_name[name].speed = speed


def _score(
    rows: Sequence[_Row],
    images: ImageSet,
    tested: NDArray[np.int64],
    protocol: Protocol,
    on_progress: Progress,
) -> None:
    """Score the images with every scorer that still runs."""

    def score(row: _Row) -> None:
        assert row.candidate is not None
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            on_progress(row.name, done, len(tested))

        row.scores = score_rows(
            row.candidate, images, tested, batch=protocol.batch, advance=advance
        )

    for row in rows:
        row.attempt(partial(score, row))


def _measure(
    row: _Row,
    labels: NDArray[np.float32],
    clusters: NDArray[np.int64],
    tested: NDArray[np.int64],
    groups: Sequence[Group],
    protocol: Protocol,
) -> None:
    assert row.candidate is not None and row.scores is not None
    for group in groups:
        row.groups[group.name] = measure_agreement(
            row.scores[np.searchsorted(tested, group.rows)],
            labels[group.rows],
            clusters[group.rows],
            fit_rmse=not row.candidate.on_label_scale,
            resamples=protocol.resamples,
        )


def _clusters(images: ImageSet) -> NDArray[np.int64]:
    """Number the independent units: near-duplicate clusters, else photos."""
    names = [
        f"photo {record['photo']}" if record["cluster"] is None else f"cluster {record['cluster']}"
        for record in images.records
    ]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _record(
    rows: Sequence[_Row],
    images: ImageSet,
    clusters: NDArray[np.int64],
    groups: Sequence[Group],
    protocol: Protocol,
) -> AccuracyRecord:
    counts = {
        group.name: GroupCounts(
            images=len(group.rows), clusters=len(np.unique(clusters[group.rows]))
        )
        for group in groups
    }
    return AccuracyRecord(
        set=AccuracySet(
            name=images.path.name,
            index_sha256=images.identity,
            source=images.meta.get("source"),
            label=images.meta.get("label"),
            size=images.size,
            groups=counts,
        ),
        protocol=AccuracyProtocol(**vars(protocol)),
        processor=processor_name(),
        packages=package_versions(*_PACKAGES),
        scorers=tuple(_row_record(row) for row in rows),
        not_run=dict(NOT_OFFLINE),
    )


def _row_record(row: _Row) -> ScorerRecord:
    record = ScorerRecord(
        name=row.name,
        kind=row.kind.value,
        file=row.file,
        error=row.error,
        speed=ScorerSpeed.model_validate(vars(row.speed)) if row.speed else None,
        groups={name: _figures(agreement) for name, agreement in row.groups.items()},
    )
    if row.candidate is None:
        return record
    names = ("source", "sha256", "size", "parameters", "gflops", "note")
    return record.model_copy(update={name: getattr(row.candidate, name) for name in names})


def _figures(agreement: Agreement) -> AgreementFigures:
    return AgreementFigures.model_validate(
        {
            name: _interval(value) if isinstance(value, Interval) else value
            for name, value in vars(agreement).items()
        }
    )


def _interval(interval: Interval) -> IntervalFigure:
    # JSON has no nan: what is undefined is null.
    value, low, high = (
        None if math.isnan(end) else round(end, 6)
        for end in (interval.value, interval.low, interval.high)
    )
    return IntervalFigure(value=value, low=low, high=high, n_undefined=interval.n_undefined)


def _scores_csv(rows: Sequence[_Row], images: ImageSet, tested: NDArray[np.int64]) -> str:
    scored = [row for row in rows if row.scores is not None]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "split", "label", *(row.name for row in scored)])
    for place, index in enumerate(tested):
        record = images.records[index]
        values = (f"{row.scores[place]:.7g}" for row in scored if row.scores is not None)
        writer.writerow([record["key"], record["split"], record["label"], *values])
    return text.getvalue()


def write_comparison(out: Path, record: AccuracyRecord, scores: str) -> None:
    """Write a record, its tables (``.md``) and the scores (``.scores.csv``) beside it."""
    write_text(out.with_suffix(".scores.csv"), scores)
    write_text(out.with_suffix(".md"), accuracy_tables(record))
    write_text(out, record.model_dump_json(indent=2, by_alias=True) + "\n")
