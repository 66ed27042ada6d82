"""Images, the scores of one file on them, and why there are none."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from edgefiqa.measuring.records.base import (
    Executed,
    FileInRuntime,
    FileName,
    Record,
    SchemaVersion,
    Sha256,
)

__all__ = [
    "Attempt",
    "FailureRecord",
    "ImageFacts",
    "ImageScore",
    "ImagesIdentity",
    "ImagesRecord",
    "ScoreRecord",
]


class ImagesIdentity(Record):
    """Which images, exactly.

    Attributes:
        name: Name to display.
        sha256: Over the keys and contents of the images, in order.
        count: How many.
        size: Side of the square that is scored.
    """

    name: str
    sha256: Sha256
    count: int = Field(ge=1)
    size: int = Field(ge=1)


class ImageFacts(Record):
    """What is known of one image without any scorer.

    Attributes:
        key: Unique name.
        photo: The photograph it was made from; its key where it is one.
        cluster: Images that are not independent of each other share one.
        label: None where there is none.
        kinds: Degradations that were applied.
        columns: The user's columns.
        short_side: Short side of the photograph in pixels; None if it could not be read, as below.
        luminance: Mean BT.601 luma of the scored square, 0..255.
        sharpness: Variance of the Laplacian of that luma.
        error: Why it could not be read.
    """

    key: FileName
    photo: str
    cluster: str
    label: FiniteFloat | None = None
    kinds: tuple[str, ...] = ()
    columns: dict[str, str] = Field(default_factory=dict)
    short_side: int | None = None
    luminance: FiniteFloat | None = None
    sharpness: FiniteFloat | None = None
    error: str | None = None


class ImagesRecord(Record):
    """The images of a run.

    Attributes:
        identity: Which.
        source: Where they came from, in words.
        label: What the labels mean; None where there are none.
        images: In the order of every score record.
    """

    measurement: Literal["images"] = "images"
    schema_version: SchemaVersion = 1
    identity: ImagesIdentity
    source: str
    label: str | None = None
    images: tuple[ImageFacts, ...]

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        keys = [image.key for image in self.images]
        if len(keys) != self.identity.count or len(set(keys)) != len(keys):
            msg = f"{len(set(keys))} different keys, the identity counts {self.identity.count}"
            raise ValueError(msg)
        return self


class ImageScore(Record):
    """One image's score, or why it has none."""

    key: FileName
    score: FiniteFloat | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.score is None) == (self.error is None):
            msg = f"{self.key} needs a score or an error, one of the two"
            raise ValueError(msg)
        return self


class ScoreRecord(Record):
    """One file in one runtime over all images.

    Attributes:
        executed: What ran.
        images: On which images.
        is_reference: Whether it is the float model that the others are compared with.
        scores: One entry an image, in the order of the images record.
        seconds: Wall time of the scoring, preprocessing included; no latency figure.
    """

    measurement: Literal["scores"] = "scores"
    schema_version: SchemaVersion = 1
    executed: Executed
    images: ImagesIdentity
    is_reference: bool = False
    scores: tuple[ImageScore, ...]
    seconds: FiniteFloat = Field(ge=0)

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if len(self.scores) != self.images.count:
            msg = f"{len(self.scores)} entries for {self.images.count} images"
            raise ValueError(msg)
        return self


class Attempt(StrEnum):
    """What was attempted when a file failed."""

    SCORES = "scores"
    LATENCY = "latency"


class FailureRecord(FileInRuntime):
    """One file in one runtime that gave no scores. Holds no metric, so the hash may be missing.

    Attributes:
        sha256: SHA-256 of the file as found; None where there was none.
        attempt: What was attempted. Records from before this field said so in the error's text.
        error: What happened.
    """

    measurement: Literal["failure"] = "failure"
    schema_version: SchemaVersion = 1
    sha256: Sha256 | None
    attempt: Attempt = Attempt.SCORES
    error: Annotated[str, StringConstraints(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, data: Any) -> Any:
        if isinstance(data, dict) and "attempt" not in data:
            text = str(data.get("error", ""))
            return data | {"attempt": "latency" if text.startswith("latency: ") else "scores"}
        return data
