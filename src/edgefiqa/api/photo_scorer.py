"""Scoring photographs with one scorer file: what ``edgefiqa.load`` returns.

Importing this module loads numpy and Pillow only; `load` imports the runtime of the file's format,
and a missing one is a ``MissingExtraError`` that names the extra to install.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.errors import ArtifactError, EdgeFiqaError, ImageError, UsageError
from edgefiqa.preprocess import (
    InputContract,
    PhotoSource,
    load_tensor,
    resize_and_crop,
    to_rgb,
)
from edgefiqa.runtimes import load as load_runtime

__all__ = ["Photo", "PhotoScore", "PhotoScorer", "StrPath", "load"]

StrPath: TypeAlias = str | os.PathLike[str]
"""A path, as ``str`` or ``pathlib.Path``."""

Photo: TypeAlias = PhotoSource | Image.Image | NDArray[np.uint8]
"""What can be scored: a path, the bytes of a JPEG or PNG …, a binary stream of them, a Pillow
image, or a uint8 array ``[height, width, 3]`` in RGB order (OpenCV's arrays are BGR)."""

_PHOTO = "a path, bytes, a binary stream, a Pillow image, or a uint8 RGB array [height, width, 3]"


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoScore:
    """The result of one photo.

    Attributes:
        name: The photo's path, or ``photos[3]`` where the fourth photo has none.
        score: Higher is better; None if the photo could not be scored.
        error: Why it could not be scored; None if it was.
    """

    name: str
    score: float | None = None
    error: EdgeFiqaError | None = None


class PhotoScorer:
    """A scorer that takes photographs: ``edgefiqa.load`` returns one.

    It may be shared between threads, which then wait for each other, and it can be pickled: another
    process loads the same file again.

    Args:
        model: See ``edgefiqa.load``.
        runtime: See ``edgefiqa.load``.
        threads: See ``edgefiqa.load``.

    Attributes:
        model: The scorer file, as it was given.
        runtime: The library that runs it, with its version ("litert 2.3.0").
        size: Side S of the square input, in pixels.
    """

    def __init__(
        self, model: StrPath = "default", *, runtime: str | None = None, threads: int | None = None
    ) -> None:
        self._scorer = load_runtime(Path(model), runtime=runtime, threads=threads)
        self._options: dict[str, Any] = {"runtime": runtime, "threads": threads}
        self._lock = threading.Lock()  # an interpreter holds one input and one output
        self.model = os.fspath(model)
        self.runtime = self._scorer.runtime
        self.size = self._scorer.size

    @property
    def contract(self) -> InputContract:
        """How a photo becomes the scorer's input: size, layout, resizing, crop, orientation."""
        return InputContract(size=self.size)

    def score(self, photo: Photo) -> float:
        """Score one photo.

        The photo is turned upright, converted to RGB, its short side resized to ``size`` and its
        centre cropped, by the rules of `contract`.

        Args:
            photo: A path, the bytes of an encoded photo, a binary stream, a Pillow image, or a
                uint8 RGB array ``[height, width, 3]`` with values 0..255, already upright.

        Returns:
            The score: higher is better. The range is that of the labels the model was trained on,
            0..1 for the default student; scores are not clipped to it.

        Raises:
            ImageError: The photo is missing, damaged, empty, animated or too large.
            UsageError: The argument is no photo, or an array of another type or shape.
            ArtifactError: The model's score is not a finite number.

        Example:
            >>> scorer = edgefiqa.load("student.tflite")
            >>> scorer.score("photo.jpg")
            0.7312...
        """
        return self._score(photo, _name(photo) or "photo")

    def score_many(self, photos: Iterable[Photo]) -> list[PhotoScore]:
        """Score photos one after the other; a photo that cannot be scored does not stop the rest.

        Args:
            photos: Any number of them, of any kind that `score` takes. ``edgefiqa.find_photos``
                lists those in folders and patterns. A generator is read photo by photo.

        Returns:
            One result a photo, in the order of `photos`, each with a score or an error.

        Raises:
            UsageError: A single photo was given instead of several.

        Example:
            >>> results = scorer.score_many(edgefiqa.find_photos(["burst/"]))
            >>> best = max((r for r in results if r.error is None), key=lambda r: r.score)
        """
        if isinstance(photos, str | bytes | os.PathLike | Image.Image | np.ndarray):
            raise UsageError(
                "score_many takes several photos",
                value=_name(photos) or type(photos).__name__,
                allowed="a list or another iterable of photos",
                next_step="call score for one photo, or edgefiqa.find_photos for a folder",
            )
        results = []
        for index, photo in enumerate(photos):
            name = _name(photo) or f"photos[{index}]"
            try:
                results.append(PhotoScore(name=name, score=self._score(photo, name)))
            except EdgeFiqaError as error:
                results.append(PhotoScore(name=name, error=error))
        return results

    def _score(self, photo: Photo, name: str) -> float:
        tensor = _load_photo(photo, self.size, name)
        with self._lock:
            score = float(self._scorer.score(tensor)[0])
        if not math.isfinite(score):
            raise ArtifactError(
                f"the score of {name} is {score}",
                value=self.model,
                allowed="a finite number",
                next_step="run edgefiqa verify on the export",
            )
        return score

    def __reduce__(self) -> tuple[Callable[[], "PhotoScorer"], tuple[()]]:
        return partial(load, self.model, **self._options), ()

    def __repr__(self) -> str:
        return f"<PhotoScorer {self.model}, {self.runtime}, {self.size} px>"


def _name(photo: object) -> str | None:
    """Return the path of a photo, None if it has none."""
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo)
    name = getattr(photo, "name", None) or getattr(photo, "filename", None)
    return name if isinstance(name, str) else None


def _load_photo(photo: Photo, size: int, name: str) -> NDArray[np.uint8]:
    """Turn any kind of photo into uint8 ``[1, size, size, 3]``."""
    if isinstance(photo, np.ndarray):
        photo = _to_image(photo, name)
    if isinstance(photo, Image.Image):
        return resize_and_crop(to_rgb(photo, name=name), size, name=name)[np.newaxis]
    encoded = isinstance(photo, str | os.PathLike | bytes | bytearray | memoryview)
    if encoded or callable(getattr(photo, "read", None)):
        return load_tensor(photo, size, name=name)
    raise UsageError(f"{name} is no photo", value=type(photo).__name__, allowed=_PHOTO)


def _to_image(array: NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise UsageError(
            f"{name} is an array of the wrong type or shape",
            value=f"{array.dtype} {list(array.shape)}",
            allowed="uint8 [height, width, 3], RGB, 0..255",
        )
    if not array.size:
        raise ImageError("the array has no pixels", value=f"{name} {list(array.shape)}")
    return Image.fromarray(array)


def load(
    model: StrPath = "default", *, runtime: str | None = None, threads: int | None = None
) -> PhotoScorer:
    """Load a scorer file, ready to score photographs.

    Only the runtime of this file's format is imported: a ``.tflite`` file needs neither torch nor
    TensorFlow.

    Args:
        model: A ``.onnx``, ``.tflite``, ``.pte`` or ``.mlpackage`` file, a model directory, or
            "default", the student that ships with the package (both need the extra ``torch``).
        runtime: Another runtime than the format's default, such as "tensorflow" for ``.tflite``.
        threads: Threads of one inference; None takes the processors available, at most 4.

    Returns:
        The scorer.

    Raises:
        ArtifactError: The file is missing, damaged, of no known format or not an edgefiqa scorer.
        CheckpointError: The weights of a model directory do not fit their card.
        MissingExtraError: The runtime is not installed; the message says what to install.
        PlatformError: The runtime does not exist on this operating system.
        UnknownNameError: There is no runtime of that name.
        UsageError: The runtime does not run this format, or `threads` is below 1.

    Example:
        >>> scorer = edgefiqa.load("student.tflite", threads=1)
        >>> scorer.runtime, scorer.size
        ('litert 2.3.0', 288)
    """
    return PhotoScorer(model, runtime=runtime, threads=threads)
