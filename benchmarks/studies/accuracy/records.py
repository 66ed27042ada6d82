"""The record of a comparison of scorers on held-back images."""

from typing import Literal

from pydantic import Field, FiniteFloat

from edgefiqa.measuring.records import Record, Sha256

__all__ = [
    "AccuracyProtocol",
    "AccuracyRecord",
    "AccuracySet",
    "AgreementFigures",
    "GroupCounts",
    "IntervalFigure",
    "ScorerRecord",
    "ScorerSpeed",
]


class IntervalFigure(Record):
    """A figure with its bootstrap interval; None is what JSON has instead of nan.

    Attributes:
        value: The figure.
        low: End of the interval.
        high: The other end.
        n_undefined: Resamples in which it is undefined.
    """

    value: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    n_undefined: int


class AgreementFigures(Record):
    """One scorer on one group; see ``Agreement``."""

    n: int
    clusters: int
    srcc: IntervalFigure
    plcc: IntervalFigure
    plcc_fitted: IntervalFigure
    krcc: IntervalFigure
    rmse: IntervalFigure
    rmse_fitted: bool


class ScorerSpeed(Record):
    """How fast a scorer is, one image at a time on one thread.

    Attributes:
        images_per_second: From the median of the samples.
        samples_ms: Each timed image.
    """

    images_per_second: FiniteFloat
    samples_ms: tuple[FiniteFloat, ...]


class ScorerRecord(Record):
    """One scorer: a row of every table.

    Attributes:
        name: Name of its row.
        kind: "model" or "baseline".
        file: Name of the model's file or folder; None for a baseline.
        source: Architecture, or library and version; None where it could not be opened, as are
            the next four.
        sha256: SHA-256 of the file that holds its parameters.
        size: Side of its input in pixels; None takes the set's.
        parameters: How many.
        gflops: Multiply-adds of one image in 10⁹.
        note: What a reader of its row must know.
        error: Why it has no figures; None where it has.
        speed: How fast it is.
        groups: Group → its figures.
    """

    name: str
    kind: str
    file: str | None
    source: str | None = None
    sha256: Sha256 | None = None
    size: int | None = None
    parameters: int | None = None
    gflops: FiniteFloat | None = None
    note: str | None = None
    error: str | None
    speed: ScorerSpeed | None
    groups: dict[str, AgreementFigures]


class GroupCounts(Record):
    """How many images a group has, and how many independent ones."""

    images: int
    clusters: int


class AccuracySet(Record):
    """The image set.

    Attributes:
        name: Name of the set's folder.
        index_sha256: SHA-256 of the set's index.
        source: What its images are, in words.
        label: What its labels mean.
        size: Short side of its images in pixels.
        groups: Group → its counts.
    """

    name: str
    index_sha256: Sha256
    source: str | None
    label: str | None
    size: int
    groups: dict[str, GroupCounts]


class AccuracyProtocol(Record):
    """How the comparison was made: ``Protocol``, and what is fixed, in words."""

    resamples: int
    batch: int
    rounds: int
    confidence: FiniteFloat = 0.95
    bootstrap: str = "percentile, whole near-duplicate clusters are drawn"
    input: str = "short side to the scorer's size, central square"
    plcc_fitted: str = "four-parameter logistic map, held fixed in the bootstrap"
    rmse: str = "of the scores as they are; after the logistic map where rmse_fitted is true"
    speed: str = "one image, one thread, scorers in turn, from uint8 pixels to the score"


class AccuracyRecord(Record):
    """Scorers and baselines beside each other on one image set.

    Attributes:
        images: The set; ``set`` in the file.
        protocol: How.
        processor: This machine's.
        packages: What computed.
        scorers: One a scorer.
        not_run: Baseline → why it was not run.
    """

    measurement: Literal["accuracy"] = "accuracy"
    schema_version: Literal[1] = 1
    images: AccuracySet = Field(alias="set")
    protocol: AccuracyProtocol
    processor: str
    packages: dict[str, str]
    scorers: tuple[ScorerRecord, ...]
    not_run: dict[str, str]
