"""The quantize stage: an export in, INT8 files that keep a policy out, and the table to show it.

::

    EXPORT_DIR ─┬─▶ rank blocks ─▶ each format: climb the ladder ─▶ INT8 files, manifest, goldens
    photographs ┘                  each vendor's plain path ─────▶ quantization/RECIPE.{json,md,svg}

Every step runs in a separate process and is kept: the same command goes on where it stopped.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefiqa import __version__
from edgefiqa.convert import TARGETS
from edgefiqa.errors import ArtifactError, EdgeFiqaError, UsageError
from edgefiqa.files import sha256_of, size_of
from edgefiqa.goldens import GOLDENS_DIR, GOLDENS_NAME, Goldens
from edgefiqa.manifest import Artifact, FileMetadata, Manifest, Parity
from edgefiqa.measuring.image_source import SourceSpec
from edgefiqa.models import load_model
from edgefiqa.quantize.climb import FormatJob, FormatResult, quantize_format
from edgefiqa.quantize.engine import BlockSensitivity
from edgefiqa.quantize.formats import FORMATS, QuantizedFormat
from edgefiqa.quantize.images import check_disjoint, load_images, open_sources
from edgefiqa.quantize.measured import MeasuredFile
from edgefiqa.quantize.report import Failure, ImagesNote, QuantizationRecord, write_report
from edgefiqa.quantize.settings import QuantizeRecipe
from edgefiqa.quantize.steps import Steps
from edgefiqa.quantize.vendor.base import Scheme, VendorJob
from edgefiqa.quantize.vendor.table import VENDORS
from edgefiqa.quantize.worker import (
    Job,
    Stability,
    VendorRun,
    check_stability,
    rank,
    run_vendor,
    score_reference,
)

__all__ = ["Options", "run"]

_WORK = ".quantize"
_RECORDS = "quantization"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is asked for.

    Attributes:
        export: What ``edgefiqa convert`` wrote.
        out: Where the files go; may be `export` itself.
        source: Float weights of the export: model directory, safetensors file or "default".
        calibration: Images that ranges come from.
        evaluation: Images that drift is measured on; labels make ΔSRCC and ΔPLCC.
        formats: Names of ``FORMATS``; empty takes those whose fp32 file the export holds.
        compare: Whether the vendors' plain paths are measured on the same images.
        threads: Threads that torch uses while preparing.
    """

    export: Path
    out: Path
    source: str
    calibration: SourceSpec
    evaluation: SourceSpec
    formats: tuple[str, ...] = ()
    compare: bool = False
    threads: int = 1


def run(
    recipe: QuantizeRecipe,
    options: Options,
    *,
    on_start: Callable[[str], None] = lambda _step: None,
    on_done: Callable[[MeasuredFile], None] = lambda _measured: None,
) -> QuantizationRecord:
    """Quantise an export to every format it holds, and measure each file against the float model.

    Args:
        recipe: What becomes int8 and what must hold.
        options: Files and images.
        on_start: Called with each step's name.
        on_done: Called with each file that was built and measured.

    Returns:
        The record, as written to ``quantization/RECIPE.json``; ``failures`` names the formats that
        could not keep the policy, whose files do not exist.

    Raises:
        UsageError: A format is not in the export, or the weights are not the export's.
        DataError: Images are missing, too few, flat, or on both sides.
        EdgeFiqaError: As a step raises.
    """
    manifest = Manifest.load(options.export)
    formats = _formats(manifest, options)
    steps = Steps(options.out / _WORK / recipe.name, on_start)
    job = _prepare(recipe, options, manifest, steps)
    reference = np.array(steps.keep("scores of the float model", list[float], _reference, job))
    stability = steps.keep("stability of the calibration", Stability, check_stability, job)
    sensitivities: list[BlockSensitivity] = []
    if recipe.policy is not None:
        sensitivities = steps.keep("sensitivity of the blocks", list[BlockSensitivity], rank, job)
    work = _Work(
        job=job,
        manifest=manifest,
        options=options,
        metadata=_metadata(manifest, recipe),
        reference=reference,
        sensitivities=sensitivities,
    )
    results, failures = _quantize_formats(work, formats, steps, on_done)
    compared, not_compared = _compare_vendors(work, formats, steps, on_done)
    record = QuantizationRecord(
        producer=f"edgefiqa {__version__}",
        recipe=recipe,
        parent_sha256=manifest.card["sha256"],
        model=manifest.card["name"],
        calibration=ImagesNote.of(job.calibration),
        evaluation=ImagesNote.of(job.evaluation),
        differing_halves=tuple(stability.differing),
        sensitivities=tuple(sensitivities),
        results={name: tuple(result.rungs) for name, result in results.items()},
        plain=tuple(compared),
        failures=(*failures, *not_compared, *_broken_policies(results)),
    )
    write_report(record, options.out / _RECORDS)
    _publish(recipe, options, manifest, results)
    if not record.failed:
        shutil.rmtree(options.out / _WORK / recipe.name)
    return record


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What the steps of one run share."""

    job: Job
    manifest: Manifest
    options: Options
    metadata: FileMetadata
    reference: NDArray[np.float64]
    sensitivities: list[BlockSensitivity]


def _quantize_formats(
    work: _Work,
    formats: Sequence[QuantizedFormat],
    steps: Steps,
    on_done: Callable[[MeasuredFile], None],
) -> tuple[dict[str, FormatResult], list[Failure]]:
    """Quantise every format; one that fails does not stop the others."""
    results: dict[str, FormatResult] = {}
    failures: list[Failure] = []
    for format_ in formats:
        format_job = _format_job(work, format_)
        steps.forget(format_.name, FormatResult, partial(_is_there, format_job.path))
        try:
            result = steps.keep(format_.name, FormatResult, quantize_format, format_job)
        except EdgeFiqaError as error:
            failures.append(Failure(name=format_.name, reason=str(error)))
            continue
        results[format_.name] = result
        for measured in result.rungs:
            on_done(measured)
    return results, failures


def _compare_vendors(
    work: _Work,
    formats: Sequence[QuantizedFormat],
    steps: Steps,
    on_done: Callable[[MeasuredFile], None],
) -> tuple[list[MeasuredFile], list[Failure]]:
    """Measure each vendor's plain path on the same images, where that is asked for."""
    compared: list[MeasuredFile] = []
    failures: list[Failure] = []
    for vendor in _vendors(formats, work.job.recipe) if work.options.compare else ():
        task = _vendor_run(work, vendor)
        try:
            compared.append(steps.keep(f"{vendor[1]} (plain)", MeasuredFile, run_vendor, task))
            on_done(compared[-1])
        except EdgeFiqaError as error:
            failures.append(Failure(name=vendor[1], reason=str(error), plain=True))
    return compared, failures


def _broken_policies(results: dict[str, FormatResult]) -> list[Failure]:
    """Return a failure for each format whose last file still breaks the policy."""
    return [
        Failure(name=name, reason=f"no plan keeps the policy: {'; '.join(result.rungs[-1].faults)}")
        for name, result in results.items()
        if result.rungs[-1].faults
    ]


def _is_there(path: Path, kept: FormatResult) -> bool:
    """Tell whether the file that a result speaks of is the one on the disk."""
    last = kept.rungs[-1]
    return bool(last.faults) or (path.exists() and sha256_of(path) == last.sha256)


def _reference(job: Job) -> list[float]:
    return [float(score) for score in score_reference(job)]


def _formats(manifest: Manifest, options: Options) -> list[QuantizedFormat]:
    held = {artifact.target for artifact in manifest.artifacts if artifact.precision == "fp32"}
    wanted = [FORMATS.get(name) for name in options.formats] or [known for _, known in FORMATS]
    missing = [format_ for format_ in wanted if format_.target not in held]
    if options.formats and missing:
        raise UsageError(
            f"the export holds no fp32 file of {missing[0].name}",
            value=options.export,
            allowed=", ".join(sorted(held)),
            next_step=f"edgefiqa convert … --to {missing[0].target} --out {options.export}",
        )
    found = [format_ for format_ in wanted if format_.target in held]
    if not found:
        raise UsageError(
            "the export holds no fp32 file that can be quantised",
            value=options.export,
            allowed=", ".join(FORMATS.names()),
        )
    return found


def _prepare(recipe: QuantizeRecipe, options: Options, manifest: Manifest, steps: Steps) -> Job:
    """Open the weights and images, prove them right, and write the tensors that steps map."""
    size = int(manifest.contract["size"])
    _, card = load_model(options.source)
    if card.sha256 != manifest.card["sha256"]:
        raise UsageError(
            "these are not the float weights of the export",
            value=f"{options.source} ({card.sha256[:12]}…)",
            allowed=f"sha256 {manifest.card['sha256'][:12]}…, {manifest.card['name']}",
            next_step="name their directory with --reference",
        )
    sources = open_sources(
        _limited(options.calibration, recipe.calibration_images),
        _limited(options.evaluation, recipe.evaluation_images),
    )
    plan = {
        "edgefiqa": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "parent": card.sha256,
        "size": size,
        "images": [source.identity for source in sources],
    }
    steps.claim(plan)
    folder = steps.folder
    calibration, evaluation = (
        load_images(source, size, folder / f"{purpose}.npy", purpose=purpose)
        for source, purpose in zip(sources, ("calibration", "evaluation"), strict=True)
    )
    check_disjoint(*sources, calibration, evaluation)
    return Job(
        source=options.source,
        size=size,
        recipe=recipe,
        calibration=calibration,
        evaluation=evaluation,
        threads=options.threads,
    )


def _limited(spec: SourceSpec, limit: int) -> SourceSpec:
    count = spec.limit or limit
    return SourceSpec(**{**vars(spec), "limit": min(count, limit)})


def _float_artifact(manifest: Manifest, target: str, precision: str = "fp32") -> Artifact:
    for artifact in manifest.artifacts:
        if (artifact.target, artifact.precision) == (target, precision):
            return artifact
    raise ArtifactError(f"the export holds no {precision} file of {target}")


def _metadata(manifest: Manifest, recipe: QuantizeRecipe) -> FileMetadata:
    card = manifest.card
    return FileMetadata(
        name=card["name"],
        model=card["model"],
        version=card["version"],
        licence=card["licence"],
        score_range=tuple(card["score_range"]),
        parent_sha256=card["sha256"],
        precision=recipe.name,
        contract=manifest.contract,
    )


def _path(format_: QuantizedFormat, manifest: Manifest, recipe: QuantizeRecipe, out: Path) -> Path:
    target = TARGETS.get(format_.target)
    return out / target.file_name(
        manifest.card["name"], int(manifest.contract["size"]), recipe.name
    )


def _format_job(work: _Work, format_: QuantizedFormat) -> FormatJob:
    return FormatJob(
        job=work.job,
        format=format_.name,
        path=_path(format_, work.manifest, work.job.recipe, work.options.out),
        float_size=_float_artifact(work.manifest, format_.target).size_bytes,
        metadata=work.metadata,
        reference=work.reference,
        sensitivities=work.sensitivities,
    )


def _scheme(recipe: QuantizeRecipe) -> Scheme:
    """Return the vendors' scheme that a recipe is compared with."""
    return Scheme.WEIGHT_ONLY if recipe.is_weight_only else Scheme.STATIC


def _vendors(
    formats: Sequence[QuantizedFormat], recipe: QuantizeRecipe
) -> list[tuple[QuantizedFormat, str]]:
    """Return the plain paths to compare with: static where the recipe is about int8 arithmetic."""
    scheme = _scheme(recipe)
    return [
        (format_, name)
        for format_ in formats
        for name in format_.vendors
        if scheme in VENDORS.get(name).schemes
    ]


def _vendor_run(work: _Work, vendor: tuple[QuantizedFormat, str]) -> VendorRun:
    format_, name = vendor
    job, options = work.job, work.options
    row = VENDORS.get(name)
    scheme = _scheme(job.recipe)
    float_file = None
    if row.starts_from is not None:
        source = row.starts_from
        artifact = _float_artifact(work.manifest, source.target, source.precision)
        float_file = options.export / artifact.file
    return VendorRun(
        job=job,
        vendor=VendorJob(
            vendor=name,
            scheme=scheme,
            source=job.source,
            size=job.size,
            calibration=job.calibration.path,
            out=options.out / _WORK / job.recipe.name / f"{name}{row.suffix}",
            metadata=work.metadata.model_copy(update={"precision": f"{name}_{scheme.value}"}),
            float_file=float_file,
        ),
        reference=work.reference,
        float_size=_float_artifact(work.manifest, format_.target).size_bytes,
    )


def _publish(
    recipe: QuantizeRecipe, options: Options, manifest: Manifest, results: dict[str, FormatResult]
) -> None:
    """Write manifest and golden vectors for the files that keep the policy."""
    kept = {name: result for name, result in results.items() if not result.rungs[-1].faults}
    if not kept:
        return
    same = options.out.resolve() == options.export.resolve()
    if not same:
        shutil.copytree(options.export / GOLDENS_DIR, options.out / GOLDENS_DIR, dirs_exist_ok=True)
    goldens = Goldens.load(options.out / GOLDENS_DIR)
    tolerances = {**goldens.tolerances, recipe.name: recipe.golden_tolerance}
    goldens.model_copy(update={"tolerances": tolerances}).save(options.out / GOLDENS_DIR)
    older = manifest.artifacts if same else _own_artifacts(options.out, manifest)
    artifacts = [
        _artifact(FORMATS.get(name), result, manifest, recipe, options)
        for name, result in kept.items()
    ]
    names = {artifact.file for artifact in artifacts}
    manifest.model_copy(
        update={
            "goldens_sha256": sha256_of(options.out / GOLDENS_DIR / GOLDENS_NAME),
            "artifacts": [
                *(artifact for artifact in older if artifact.file not in names),
                *artifacts,
            ],
        }
    ).save(options.out)


def _own_artifacts(out: Path, manifest: Manifest) -> list[Artifact]:
    """Return what other recipes made here of the same weights."""
    try:
        other = Manifest.load(out)
    except ArtifactError:
        return []
    same = other.card.get("sha256") == manifest.card["sha256"]
    return [artifact for artifact in other.artifacts if same and (out / artifact.file).exists()]


def _artifact(
    format_: QuantizedFormat,
    result: FormatResult,
    manifest: Manifest,
    recipe: QuantizeRecipe,
    options: Options,
) -> Artifact:
    path, measured = _path(format_, manifest, recipe, options.out), result.rungs[-1]
    errors = {name: measured.figures[name].value for name in ("max_error", "bias")}
    return Artifact(
        file=path.name,
        format=format_.format.value,
        target=format_.target,
        precision=recipe.name,
        sha256=sha256_of(path),
        size_bytes=size_of(path),
        folded=result.folded,
        structure=result.structure
        | {
            "int8_share": measured.int8_share,
            "layers": [layer.model_dump() for layer in measured.layers],
        },
        tools=result.tools,
        parity=[
            Parity(
                sha256=measured.sha256,
                runtime=measured.runtime,
                reference="torch, the network as trained",
                photos=options.evaluation.path.name,
                images=measured.images,
                max_abs_error=errors["max_error"] or 0.0,
                mean_abs_error=result.mean_abs_error,
                worst_image=result.worst_image,
                tolerance=recipe.golden_tolerance,
            )
        ],
        not_executed=[],
        seconds=round(result.seconds, 1),
    )
