"""The files of a demo: every format in float, then in INT8; what is finished is kept."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgefiqa.convert import TARGETS, ExportTarget, export_model, parse_targets
from edgefiqa.demo.image_sets import ImageSets
from edgefiqa.demo.settings import Settings
from edgefiqa.files import sha256_of
from edgefiqa.manifest import MANIFEST_NAME, Artifact, Manifest
from edgefiqa.measuring.image_source import open_source
from edgefiqa.measuring.records import FailureRecord
from edgefiqa.models import ModelCard
from edgefiqa.quantize import (
    FORMATS,
    Failure,
    QuantizationRecord,
    QuantizeOptions,
    QuantizeRecipe,
    quantize_export,
)
from edgefiqa.runtimes import runtime_for
from edgefiqa.runtimes.table import default_threads

__all__ = ["Weights", "export_float", "export_int8", "refused_files"]

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The float weights of a demo.

    Attributes:
        source: Model directory, safetensors file or "default".
        card: Their card.
        size: Input side in pixels.
    """

    source: str
    card: ModelCard
    size: int


def export_float(
    weights: Weights, settings: Settings, export: Path, *, photos: Path | None, say: Say
) -> bool:
    """Convert to the formats whose files do not lie here yet.

    Args:
        weights: What is converted.
        settings: To which formats.
        export: Directory for the files.
        photos: Folder of photographs for the parity check, besides the built-in ones.
        say: Told each file's name.

    Returns:
        Whether there was anything to do.
    """
    held = _intact(export)

    def is_missing(target: ExportTarget) -> bool:
        names = {
            target.file_name(weights.card.name, weights.size, precision)
            for precision in target.precisions
        }
        return not names <= held

    missing = [target for target in parse_targets(settings.targets) if is_missing(target)]
    if missing:
        export_model(
            weights.source,
            missing,
            out=export,
            size=weights.size,
            photos=photos,
            on_start=lambda name: say(f"    {name}"),
        )
    return bool(missing)


def export_int8(
    recipe: QuantizeRecipe, weights: Weights, images: ImageSets, export: Path, *, say: Say
) -> tuple[QuantizationRecord, bool]:
    """Quantise every float file, unless that was done on the same images.

    Args:
        recipe: What becomes int8.
        weights: The float weights of the export.
        images: To calibrate with and to measure on.
        export: Directory of the float files; INT8 files that keep the policy go there too.
        say: Told each step's name.

    Returns:
        What was measured, and whether there was anything to do.
    """
    path = export / "quantization" / f"{recipe.name}.json"
    if path.is_file():
        record = QuantizationRecord.model_validate_json(path.read_bytes())
        if _is_same(record, recipe, weights, images) and _files_of(record) <= _hashes(export):
            return record, False
    _forget(recipe.name, export)
    options = QuantizeOptions(
        export=export,
        out=export,
        source=weights.source,
        calibration=images.calibration,
        evaluation=images.evaluation,
        threads=default_threads(),
    )
    return quantize_export(recipe, options, on_start=lambda name: say(f"    {name}")), True


def refused_files(record: QuantizationRecord, weights: Weights) -> list[FailureRecord]:
    """Return one failure record a format that has no INT8 file: it is shown, not left out."""
    return [_refused(failure, record, weights) for failure in record.failures if not failure.plain]


def _refused(failure: Failure, record: QuantizationRecord, weights: Weights) -> FailureRecord:
    row = FORMATS.get(failure.name)
    rungs = record.results.get(failure.name)
    reason = f"not made: {failure.reason}"
    if rungs:
        best = rungs[-1]
        images = f"{best.images} images, sha256 {best.sha256[:12]}"
        reason = f"refused by the policy, so there is no file: {failure.reason} ({images})"
    name = record.recipe.name
    return FailureRecord(
        file=TARGETS.get(row.target).file_name(weights.card.name, weights.size, name),
        sha256=None,
        target=row.target,
        precision=name,
        runtime=runtime_for(row.format).name,
        error=reason,
    )


def _artifacts(export: Path) -> list[Artifact]:
    return Manifest.load(export).artifacts if (export / MANIFEST_NAME).is_file() else []


def _intact(export: Path) -> set[str]:
    """Return the files that are those of the manifest."""
    return {
        artifact.file
        for artifact in _artifacts(export)
        if (export / artifact.file).exists()
        and sha256_of(export / artifact.file) == artifact.sha256
    }


def _hashes(export: Path) -> set[str]:
    intact = _intact(export)
    return {artifact.sha256 for artifact in _artifacts(export) if artifact.file in intact}


def _files_of(record: QuantizationRecord) -> set[str]:
    return {rungs[-1].sha256 for rungs in record.results.values() if not rungs[-1].faults}


def _is_same(
    record: QuantizationRecord, recipe: QuantizeRecipe, weights: Weights, images: ImageSets
) -> bool:
    if (record.recipe, record.parent_sha256) != (recipe, weights.card.sha256):
        return False
    limits = (recipe.calibration_images, recipe.evaluation_images)
    sources = (images.calibration, images.evaluation)
    wanted = [
        open_source(replace(source, limit=min(source.limit or limit, limit))).identity
        for source, limit in zip(sources, limits, strict=True)
    ]
    return wanted == [record.calibration.sha256, record.evaluation.sha256]


def _forget(precision: str, export: Path) -> None:
    """Remove what other images made: a file that is refused now must not be found beside it."""
    manifest = Manifest.load(export)
    gone = [artifact for artifact in manifest.artifacts if artifact.precision == precision]
    if gone:
        kept = [artifact for artifact in manifest.artifacts if artifact.precision != precision]
        manifest.model_copy(update={"artifacts": kept}).save(export)
    for path in (export / artifact.file for artifact in gone):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
