"""Where a score change comes from: the chain from the trained model to the phone, link by link.

::

    trained model ─ decode/resize ─ graph rewriting ─ conversion ─ fp16 ─ int8 ─ runtime
                                                                             └ architecture

Each link is a vector of scores on the same images that differs from the one before in one thing.
Signed means add up along the chain; mean and 99th percentile of |Δ| do not, and are shown beside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.drift.run import aligned_scores
from edgefiqa.errors import DataError
from edgefiqa.manifest import PrecisionKind
from edgefiqa.markdown import Table
from edgefiqa.measuring.cells import REWRITTEN
from edgefiqa.measuring.figures import PairedScores, measure_figures
from edgefiqa.measuring.records import (
    Executed,
    ImagesRecord,
    ScoreRecord,
    WaterfallRecord,
    WaterfallStep,
)
from edgefiqa.measuring.run_directory import Run
from edgefiqa.runtimes import Format, runtime_for

__all__ = [
    "DriftStage",
    "Link",
    "list_chains",
    "measure_waterfall",
    "waterfall_table",
    "waterfalls_of",
]


class DriftStage(StrEnum):
    """What can change a score on its way to the phone, in order."""

    TRAINED = "trained model"
    DECODE = "decode/resize"
    REWRITING = "graph rewriting"
    CONVERSION = "conversion"
    FP16 = "fp16"
    INT8 = "int8"
    RUNTIME = "runtime"
    ARCHITECTURE = "architecture"


@dataclass(frozen=True, kw_only=True)
class Link:
    """Scores after one stage.

    Attributes:
        stage: The stage.
        executed: What gave them.
        scores: ``[n]`` in the order of the images, nan where there is none.
    """

    stage: DriftStage
    executed: Executed
    scores: NDArray[np.float64]


def measure_waterfall(
    links: Sequence[Link], images: ImagesRecord, *, name: str, resamples: int = 1000
) -> WaterfallRecord:
    """Attribute a score change to the stages between the links.

    Args:
        links: In order; the first is where the chain starts.
        images: Images of all links.
        name: Name of the chain.
        resamples: Number of resamples of the bootstrap intervals of the correlations.

    Returns:
        The record.

    Raises:
        DataError: There are fewer than two links, or no image has all scores.
    """
    if len(links) < 2:
        raise DataError("a waterfall needs two links or more", value=name)
    rows = np.isfinite([link.scores for link in links]).all(axis=0)
    if not rows.any():
        raise DataError("no image was scored at every stage", value=name)
    labels = np.array([np.nan if f.label is None else f.label for f in images.images], np.float64)
    clusters = [images.images[row].cluster for row in np.flatnonzero(rows)]

    def step(stage: str, before: Link, after: Link) -> WaterfallStep:
        pairs = PairedScores(after.scores[rows], before.scores[rows], labels[rows], threshold=None)
        figures = measure_figures(pairs, clusters, resamples=resamples, with_krcc=False)
        numbers = {key: figures[key].value or 0.0 for key in ("mean_error", "p99_error", "bias")}
        return WaterfallStep(
            stage=stage,
            before=before.executed,
            after=after.executed,
            n=pairs.n,
            srcc=figures["srcc_reference"],
            delta_srcc=figures["delta_srcc"],
            **numbers,
        )

    found = {link.stage for link in links}
    return WaterfallRecord(
        name=name,
        images=images.identity,
        steps=tuple(step(after.stage, before, after) for before, after in pairwise(links)),
        total=step("total", links[0], links[-1]),
        not_measured=tuple(stage.value for stage in DriftStage if stage not in found),
    )


def list_chains(
    run: Run, *, origin: Run | None = None, device: Run | None = None
) -> Iterator[tuple[str, list[Link]]]:
    """List the chains that a run's records make: one for each file that ends one.

    Args:
        run: The scores on the pixels that the files get.
        origin: A run whose reference scored the same photographs as the training decodes them;
            where the pixels of ``run`` come from another decoder. Matched by key, endings aside.
        device: A run of the same files and images on another architecture.

    Yields:
        The name of the file at the end, and the links.

    Raises:
        DataError: The run has no images or no reference.
    """
    images, reference = run.images, run.reference
    if images is None or reference is None:
        raise DataError("a waterfall needs the reference's scores", value=run.path)
    start = [_link(DriftStage.TRAINED, reference, images)]
    if origin is not None:
        start = [_origin(origin, images), _link(DriftStage.DECODE, reference, images)]
    others = [score for score in run.scores if not score.is_reference]
    start += [
        _link(DriftStage.REWRITING, record, images)
        for record in others
        if record.executed.target == REWRITTEN
    ]
    for format_ in Format:
        default = runtime_for(format_).name
        of_format = [record for record in others if record.executed.format == format_.value]
        files = [
            record
            for record in of_format
            if record.executed.runtime == default and record.executed.target != REWRITTEN
        ]
        for last in files:
            links = [*start, *_precisions(last, files, images)]
            links += _elsewhere(last, of_format, images, device)
            yield last.executed.file, links


def _link(stage: DriftStage, record: ScoreRecord, images: ImagesRecord) -> Link:
    return Link(stage=stage, executed=record.executed, scores=aligned_scores(record, images))


def _origin(origin: Run, images: ImagesRecord) -> Link:
    """Put another run's reference scores into this run's order."""
    record = origin.reference
    if record is None:
        raise DataError("the run of origin has no reference", value=origin.path)
    scores = {_stem(entry.key): entry.score for entry in record.scores}
    ordered = [scores.get(_stem(fact.key)) for fact in images.images]
    values = np.array([np.nan if score is None else score for score in ordered], np.float64)
    return Link(stage=DriftStage.TRAINED, executed=record.executed, scores=values)


def _stem(key: str) -> str:
    return str(PurePosixPath(key).with_suffix(""))


_STAGE_OF = {
    PrecisionKind.FLOAT32: DriftStage.CONVERSION,
    PrecisionKind.FLOAT16: DriftStage.FP16,
    PrecisionKind.QUANTISED: DriftStage.INT8,
}


def _precisions(
    last: ScoreRecord, files: Sequence[ScoreRecord], images: ImagesRecord
) -> Iterator[Link]:
    """Yield the files that the last one was made by way of, and the last one."""
    executed = last.executed
    stage = _STAGE_OF[executed.precision_kind]
    before: dict[DriftStage, ScoreRecord] = {}
    # A file of the same exporter if there is one, else any of the format.
    for record in sorted(files, key=lambda other: other.executed.target != executed.target):
        if record is not last:
            before.setdefault(_STAGE_OF[record.executed.precision_kind], record)
    # Core ML computes in fp16 what its 8-bit files leave in float; the other formats in fp32.
    way: dict[DriftStage, tuple[DriftStage, ...]] = {
        DriftStage.CONVERSION: (),
        DriftStage.FP16: (DriftStage.CONVERSION,),
        DriftStage.INT8: (
            DriftStage.CONVERSION,
            *((DriftStage.FP16,) if executed.format == Format.COREML else ()),
        ),
    }
    for earlier in way[stage]:
        if earlier in before:
            yield _link(earlier, before[earlier], images)
    yield _link(stage, last, images)


def _elsewhere(
    last: ScoreRecord, of_format: Sequence[ScoreRecord], images: ImagesRecord, device: Run | None
) -> Iterator[Link]:
    """Yield the same bytes in another runtime, then on another architecture."""
    theirs = {
        (score_record.executed.sha256, score_record.executed.runtime): score_record
        for score_record in (device.scores if device else ())
    }
    end = (last.executed.sha256, last.executed.runtime)
    if end not in theirs:  # by way of the runtime that the other architecture has, if any
        same = [
            score_record
            for score_record in of_format
            if score_record.executed.sha256 == last.executed.sha256
        ]
        second = [
            score_record
            for score_record in same
            if score_record.executed.runtime != last.executed.runtime
        ]
        for record in second[:1]:
            yield _link(DriftStage.RUNTIME, record, images)
            end = (record.executed.sha256, record.executed.runtime)
    if end in theirs:
        yield _link(DriftStage.ARCHITECTURE, theirs[end], images)


def waterfalls_of(
    run: Run, *, origin: Run | None = None, device: Run | None = None, resamples: int = 1000
) -> list[WaterfallRecord]:
    """Measure every chain of a run; see `list_chains` for the arguments."""
    images = run.images
    if images is None:
        raise DataError("a waterfall needs scores", value=run.path)
    return [
        measure_waterfall(links, images, name=name, resamples=resamples)
        for name, links in list_chains(run, origin=origin, device=device)
    ]


def waterfall_table(record: WaterfallRecord) -> str:
    """Return a waterfall as a Markdown table."""
    heads = ["stage", "after", "mean Δ", "mean |Δ|", "p99 |Δ|", "SRCC to before", "ΔSRCC to labels"]
    rows = []
    for step in (*record.steps, record.total):
        cells = [step.stage, f"{step.after.cell}, `{step.after.sha256[:12]}`"]
        cells += [f"{step.bias:+.2e}", f"{step.mean_error:.2e}", f"{step.p99_error:.2e}"]
        cells += [_number(step.srcc.value, ".6f"), _number(step.delta_srcc.value, "+.5f")]
        rows.append(cells)
    table = Table(heads=heads, rows=rows).markdown()
    missing = ", ".join(record.not_measured)
    return f"{table}\n\nNot measured: {missing}." if missing else table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
