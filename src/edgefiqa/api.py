"""The public Python API: score photographs, convert, quantise and measure a scorer.

Use it through the package: ``edgefiqa.load``, ``edgefiqa.convert``, ``edgefiqa.quantize``,
``edgefiqa.measure_drift``. Importing this module loads numpy and Pillow only; a runtime, torch and
the pipeline are imported by the call that needs them, and a missing one is a
``MissingExtraError`` that names the extra to install.

``convert``, ``quantize`` and ``measure_drift`` start processes that import the main module again,
so a script must call them below ``if __name__ == "__main__":``, as with ``multiprocessing``.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

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

if TYPE_CHECKING:
    from edgefiqa.manifest import Artifact, Manifest
    from edgefiqa.measuring.records import DriftRecord
    from edgefiqa.quantize import MeasuredFile, QuantizationRecord, QuantizeRecipe

__all__ = [
    "Photo",
    "PhotoScore",
    "PhotoScorer",
    "StrPath",
    "convert",
    "load",
    "measure_drift",
    "quantize",
]

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


def convert(
    model: StrPath,
    *,
    out: StrPath,
    to: str | Iterable[str] = ("onnx", "tflite", "executorch", "coreml"),
    size: int | None = None,
    photos: StrPath | None = None,
    photo_limit: int = 100,
    on_start: Callable[[str], object] | None = None,
    on_done: Callable[["Artifact"], object] | None = None,
) -> "Manifest":
    """Export a model, run each file in its own runtime, and compare its scores with torch's.

    A file whose scores disagree is not written. Beside the files, ``out`` gets ``manifest.json``
    and golden vectors. Needs the extra ``convert``. Takes half a minute a format.

    Args:
        model: "default", a model directory or a ``.safetensors`` file with its card beside it.
        out: Folder to write to; made if needed. An earlier export of the same weights at the same
            size is added to.
        to: Formats, as a sequence or separated by commas: onnx, tflite, tflite-tf, executorch,
            executorch-coreml, coreml.
        size: Side of the square input in pixels; None takes the one on the model's card.
        photos: Folder of photographs to compare scores on, besides the built-in one.
        photo_limit: At most this many of them, evenly spaced.
        on_start: Called with the file's name before each export.
        on_done: Called with each finished ``edgefiqa.manifest.Artifact``.

    Returns:
        The manifest as written: every file with its sha256 and its largest difference to torch.

    Raises:
        ParityError: A file's scores disagree with torch's.
        UnknownNameError: There is no such format.
        UsageError: ``out`` holds the export of other weights or of another size.
        MissingExtraError: A package that the export needs is not installed.
        EdgeFiqaError: The weights, the photographs or an exporter failed; the message says which.

    Example:
        >>> manifest = edgefiqa.convert("default", to=("onnx", "tflite"), out="export")
        >>> [artifact.file for artifact in manifest.artifacts]
        ['default-student_288_fp32.onnx', 'default-student_288_fp32.tflite']
    """
    from edgefiqa.convert import parse_targets

    # First, since a wrong name must not wait until torch is imported.
    targets = parse_targets(to if isinstance(to, str) else ",".join(to))
    from edgefiqa.convert import export_model

    return export_model(
        os.fspath(model),
        targets,
        out=Path(out),
        size=size,
        photos=_path(photos),
        photo_limit=photo_limit,
        on_start=_callback(on_start),
        on_done=_callback(on_done),
    )


def quantize(
    export: StrPath,
    *,
    calibration: StrPath,
    evaluation: StrPath,
    labels: StrPath | None = None,
    recipe: "StrPath | QuantizeRecipe" = "mixed_w8a8_srcc",
    to: str | Iterable[str] = (),
    out: StrPath | None = None,
    reference: StrPath = "default",
    compare: bool = False,
    threads: int = 1,
    on_start: Callable[[str], object] | None = None,
    on_done: Callable[["MeasuredFile"], object] | None = None,
) -> "QuantizationRecord":
    """Make INT8 files of an export that keep a policy, measured in their own runtimes.

    Each format starts with everything in int8 and returns whole blocks to float until the policy
    holds; where it cannot hold, no file is written. An interrupted call goes on where it stopped.
    Needs the extra ``quantize``.

    Args:
        export: Folder that `convert` wrote, with fp32 files.
        calibration: Image set or folder of photographs that activation ranges come from.
        evaluation: Other images, on which drift to the float model is measured.
        labels: Label file of the evaluation photographs; without one, ΔSRCC and ΔPLCC need an
            image set that has labels.
        recipe: Name of a shipped recipe (mixed_w8a8_srcc, static_w8a8_per_channel, weight_only_w8,
            dynamic_w8), a YAML file, or an ``edgefiqa.quantize.QuantizeRecipe``.
        to: Formats, as a sequence or separated by commas: onnx, tflite, executorch, coreml. Empty
            takes all that the export holds.
        out: Folder of the files; None takes the export itself.
        reference: Float weights of the export: "default" or a model directory.
        compare: Whether each vendor's plain INT8 path is measured on the same images too.
        threads: Threads of torch while preparing.
        on_start: Called with each step's name.
        on_done: Called with each ``edgefiqa.quantize.MeasuredFile``.

    Returns:
        The record, also written to ``out/quantization/RECIPE.json``. Formats that could not keep
        the policy are in its ``failures``; ``failed`` tells whether there are any.

    Raises:
        UsageError: A format is not in the export, or the weights are not the export's.
        UnknownNameError: There is no such format.
        RecipeError: There is no such recipe, or it has faults.
        DataError: Images are missing, too few, or in both sets.
        MissingExtraError: A package that a format needs is not installed.

    Example:
        >>> record = edgefiqa.quantize("export", calibration="photos", evaluation="other_photos")
        >>> {name: files[-1].size_ratio for name, files in record.results.items()}
        {'onnx': 0.289, 'tflite': 0.321}
    """
    from edgefiqa.measuring.image_source import SourceSpec
    from edgefiqa.quantize import (
        QuantizeOptions,
        QuantizeRecipe,
        load_quantize_recipe,
        quantize_export,
    )

    options = QuantizeOptions(
        export=Path(export),
        out=Path(export if out is None else out),
        source=os.fspath(reference),
        calibration=SourceSpec(path=Path(calibration)),
        evaluation=SourceSpec(path=Path(evaluation), labels=_path(labels)),
        formats=_names(to),
        compare=compare,
        threads=threads,
    )
    if not isinstance(recipe, QuantizeRecipe):
        recipe = load_quantize_recipe(os.fspath(recipe))
    return quantize_export(
        recipe, options, on_start=_callback(on_start), on_done=_callback(on_done)
    )


def measure_drift(
    export: StrPath,
    *,
    images: StrPath,
    out: StrPath,
    labels: StrPath | None = None,
    columns: StrPath | None = None,
    splits: Iterable[str] = (),
    limit: int | None = None,
    reference: StrPath | None = None,
    runtimes: Iterable[str] = (),
    threshold: float | None = None,
    resamples: int = 1000,
    threads: int = 1,
    on_start: Callable[[str], object] | None = None,
) -> "list[DriftRecord]":
    """Score images with every file of an export, and measure each against the float model.

    Each file runs in its own runtime and process. One that crashes does not stop the others: it is
    logged as a warning and becomes a record in ``out/failures``. An interrupted call goes on where
    it stopped. ``edgefiqa report OUT`` and ``edgefiqa gate OUT`` read the records.

    Args:
        export: Folder that `convert` or `quantize` wrote.
        images: An image set, or a folder of photographs.
        out: Folder of the records; what it holds of the same files and images is kept.
        labels: Label file of the photographs; needed for ΔSRCC and ΔPLCC.
        columns: CSV whose first column is the image; figures are sliced by its other columns.
        splits: Splits of an image set; empty takes those held back from training, else all.
        limit: At most this many images, evenly spaced.
        reference: Model directory of the float weights; None takes those of the package.
        runtimes: Only these runtimes, such as ("litert",); empty takes all that run a file.
        threshold: Score from which the app accepts a photo: decisions that flip are counted.
        resamples: Number of resamples of each bootstrap, from which the intervals come.
        threads: Threads of one inference.
        on_start: Called with the name of each file and runtime.

    Returns:
        One record a file and runtime, sorted by name; the network as it was rewritten for export,
        still in torch, is one of them. ``record.slices["all"].figures["srcc_reference"].value`` is
        SRCC to the float model; see ``edgefiqa.measuring.figures.FIGURES`` for the others.

    Raises:
        ArtifactError: There is no manifest, or `reference` holds other weights.
        DataError: There are no images, ``out`` holds other images, or the reference failed.
        UnknownNameError: There is no such runtime.
        UsageError: `threads` is below 1.

    Example:
        >>> records = edgefiqa.measure_drift("export", images="photos", out="runs/drift")
        >>> {r.executed.cell: r.slices["all"].figures["max_error"].value for r in records}
        {'default-student_288_fp32.onnx in onnxruntime': 2.4e-07, ...}
    """
    from edgefiqa.benchmarks import DriftRules, measure_run, score_export, waterfalls_of
    from edgefiqa.measuring.image_source import SourceSpec, open_source
    from edgefiqa.measuring.run_directory import load_run, save_record

    run = Path(out)
    spec = SourceSpec(
        path=Path(images),
        labels=_path(labels),
        columns=_path(columns),
        splits=_names(splits),
        limit=limit,
    )
    score_export(
        Path(export),
        spec,
        run,
        reference=_path(reference),
        runtimes=_names(runtimes),
        threads=threads,
        on_start=_callback(on_start),
    )
    rules = DriftRules(threshold=threshold, resamples=resamples)
    records = list(measure_run(load_run(run), rules, source=open_source(spec)))
    for waterfall in waterfalls_of(load_run(run), resamples=resamples):
        save_record(run, waterfall)
    return records


def _path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names that were given as a sequence or separated by commas."""
    found = names.split(",") if isinstance(names, str) else names
    return tuple(name.strip() for name in found if name.strip())


def _callback(function: Callable[[Any], object] | None) -> Callable[[Any], None]:
    """Return a function that can always be called."""

    def call(value: Any) -> None:
        if function is not None:
            function(value)

    return call
