"""The pipeline's stages as functions: convert, quantise, measure drift.

Torch and the stages are imported by the call that needs them. The functions start processes that
import the main module again, so a script must call them below ``if __name__ == "__main__":``, as
with ``multiprocessing``.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefiqa.api.photo_scorer import StrPath

if TYPE_CHECKING:
    from edgefiqa.manifest import Artifact, Manifest
    from edgefiqa.measuring.records import DriftRecord
    from edgefiqa.quantize import MeasuredFile, QuantizationRecord, QuantizeRecipe

__all__ = ["convert", "measure_drift", "quantize"]


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
    from edgefiqa.benchmarks import DriftRules, record_drift, score_export
    from edgefiqa.measuring.image_source import SourceSpec

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
    return record_drift(run, spec, DriftRules(threshold=threshold, resamples=resamples))


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
