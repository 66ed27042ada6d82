"""One file against the float reference: figures with intervals, overall and by slice."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from edgefiqa.measuring.records.base import Executed, FileName, Record, SchemaVersion
from edgefiqa.measuring.records.scores import ImagesIdentity

__all__ = ["DriftRecord", "Figure", "SliceFigures", "WorstImage"]


class Figure(Record):
    """One metric, with its interval where it has one.

    Attributes:
        value: None where it is undefined.
        low: Lower end of the bootstrap interval.
        high: Upper end.
        n_undefined: Resamples on which it was undefined; they are left out of the interval.
        reason: Why the value, or the interval, is missing.
    """

    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n_undefined: int = 0
    reason: str | None = None

    @model_validator(mode="after")
    def _check_reason(self) -> Self:
        if (self.value is None or self.low is None) and not self.reason:
            msg = "a figure without a value or an interval needs a reason"
            raise ValueError(msg)
        if (self.low is None) != (self.high is None):
            msg = "an interval has two ends"
            raise ValueError(msg)
        return self


class SliceFigures(Record):
    """The figures on some of the images.

    Attributes:
        rule: How the images were chosen, in words.
        n: Images that both files scored.
        n_labelled: Those of them with a label.
        clusters: Independent photographs among them.
        figures: Name to figure; the names are in ``edgefiqa.benchmarks.figures``.
    """

    rule: str
    n: int = Field(ge=0)
    n_labelled: int = Field(ge=0)
    clusters: int = Field(ge=0)
    figures: dict[str, Figure]


class WorstImage(Record):
    """One of the images with the largest error.

    Attributes:
        key: Which.
        score: The file's.
        reference: The float reference's.
        error: ``score − reference``.
        slices: The slices it is in.
        thumbnail: File in the run directory, if one was written.
    """

    key: FileName
    score: FiniteFloat
    reference: FiniteFloat
    error: FiniteFloat
    slices: tuple[str, ...] = ()
    thumbnail: str | None = None


class DriftRecord(Record):
    """One file against the float reference on the same images.

    Attributes:
        executed: What ran.
        reference: What it is compared with.
        images: On which images.
        failed: Images that one of the two could not score; they are in no figure.
        threshold: The decision threshold on the score; None counts no flips.
        resamples: Number of resamples of the bootstrap; whole clusters are drawn.
        confidence: Confidence level of the intervals.
        seed: Seed of the resampling.
        slices: Name to figures; ``all`` is all images.
        worst: Largest error first.
    """

    measurement: Literal["drift"] = "drift"
    schema_version: SchemaVersion = 1
    executed: Executed
    reference: Executed
    images: ImagesIdentity
    failed: int = Field(ge=0)
    threshold: FiniteFloat | None
    resamples: int = Field(ge=1)
    confidence: FiniteFloat = Field(gt=0, lt=1)
    seed: int
    slices: dict[str, SliceFigures]
    worst: tuple[WorstImage, ...]
