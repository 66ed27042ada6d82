"""What one process does: rank the blocks, climb one format's ladder, or run a vendor's path.

Runtimes and toolkits do not bear each other, so each format has a process of its own; everything
goes in and out by value or as files.
"""

import importlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgefiqa.benchmarks.policy import load_policy
from edgefiqa.benchmarks.record_types import Figure
from edgefiqa.convert.prepare import prepare
from edgefiqa.errors import EdgeFiqaError, MissingExtraError
from edgefiqa.files import sha256_of, size_of
from edgefiqa.manifest import FileMetadata
from edgefiqa.models import load_model
from edgefiqa.quantize.backends.base import Backend, Executed
from edgefiqa.quantize.engine import INT8, BlockSensitivity, ladder, make_plan, rank_blocks
from edgefiqa.quantize.formats import FORMATS, QuantizedFormat
from edgefiqa.quantize.images import Images
from edgefiqa.quantize.measured import LayerRecord, Measured, Reference, broken_rules, measure
from edgefiqa.quantize.plan import Mode
from edgefiqa.quantize.preparation import Prepared, prepare_for_int8
from edgefiqa.quantize.reference import fake_quantize, score_images
from edgefiqa.quantize.settings import QuantizeRecipe
from edgefiqa.quantize.statistics import Observed, describe_layers, observe
from edgefiqa.quantize.vendor.base import VendorJob
from edgefiqa.quantize.vendor.run import quantize_with_vendor
from edgefiqa.quantize.weights import round_weights
from edgefiqa.runtimes import detect_format, load
from edgefiqa.runtimes.torch import score_with_torch

__all__ = [
    "FormatJob",
    "FormatResult",
    "Job",
    "Stability",
    "VendorRun",
    "check_stability",
    "measure_file",
    "quantize_format",
    "rank",
    "run_vendor",
    "score_reference",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every process is given.

    Attributes:
        source: Model directory, safetensors file or "default".
        size: S, in pixels.
        recipe: The recipe.
        calibration: Images that ranges come from.
        evaluation: Images that drift is measured on.
        threads: Of torch.
    """

    source: str
    size: int
    recipe: QuantizeRecipe
    calibration: Images
    evaluation: Images
    threads: int


@dataclass(frozen=True, kw_only=True)
class FormatJob:
    """What the process of one format is given.

    Attributes:
        job: What every process is given.
        format: A name of ``FORMATS``.
        path: The file to write; it appears only if it keeps the policy.
        float_size: Size of the format's fp32 file, in bytes.
        metadata: What goes into the file.
        reference: The float model's scores of the evaluation images, float64 ``[n]``.
        sensitivities: Of all blocks.
    """

    job: Job
    format: str
    path: Path
    float_size: int
    metadata: FileMetadata
    reference: NDArray[np.float64]
    sensitivities: list[BlockSensitivity]


_STABILITY_IMAGES = 200
_STABLE = ("delta_srcc", "srcc_reference", "bias")


class Stability(BaseModel):
    """The drift that two halves of the calibration images give.

    Attributes:
        images: Evaluation images.
        halves: The figures of each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    halves: list[dict[str, Figure]]

    @property
    def differing(self) -> list[str]:
        """Figures of one half that lie outside the other's 95 % interval, both ways."""
        first, second = self.halves
        return [name for name in _STABLE if _outside(first[name], second[name])]


def _outside(first: Figure, second: Figure) -> bool:
    def inside(own: Figure, other: Figure) -> bool:
        if own.value is None or other.low is None or other.high is None:
            return own.value is None and other.value is None
        return other.low <= own.value <= other.high

    return not (inside(first, second) or inside(second, first))


class FormatResult(BaseModel):
    """What one format came to.

    Attributes:
        rungs: Every file that was built and measured, in order; the last is the one that was
            written, if it has no faults.
        folded: The exact rewrites that are in the files.
        tools: Packages involved, with versions.
        structure: Operators of the last file.
        scores: Of the last file on the evaluation images.
        mean_abs_error: Of them, to the float model.
        worst_image: The image with the largest error.
        seconds: Time taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rungs: list[Measured]
    folded: list[str]
    tools: dict[str, str]
    structure: dict[str, Any]
    scores: list[float]
    mean_abs_error: float
    worst_image: str
    seconds: float


def score_reference(job: Job) -> NDArray[np.float64]:
    """Score the evaluation images with the network as trained, in torch."""
    torch.set_num_threads(job.threads)
    model, _ = load_model(job.source)
    return score_with_torch(model, job.evaluation.tensors()).astype(np.float64)


def _prepared(job: Job, backend: Backend | None) -> Prepared:
    model, _ = load_model(job.source)
    scorer = prepare(model, job.size)
    if backend is not None:
        scorer = backend.variant(scorer)
    return prepare_for_int8(scorer, job.calibration.tensors(), smooth_channels=job.recipe.smooth)


def _observed(prepared: Prepared, job: Job) -> dict[str, Observed]:
    return observe(prepared.scorer, job.calibration.tensors())


def rank(job: Job) -> list[BlockSensitivity]:
    """Rank the blocks in the format-neutral model of int8 arithmetic."""
    torch.set_num_threads(job.threads)
    prepared = _prepared(job, None)
    observed = _observed(prepared, job)
    images = job.calibration.tensors()
    plan = make_plan(
        describe_layers(prepared.scorer, torch.from_numpy(images[:1])),
        observed,
        prepared.chain,
        supports=lambda _layer: (Mode.STATIC,),
        allowed=(Mode.STATIC,),
    )
    places = np.linspace(0, len(images) - 1, min(job.recipe.sensitivity_images, len(images)))
    return rank_blocks(
        prepared.scorer, plan, observed, images[places.round().astype(int)], on_block=_log.info
    )


def check_stability(job: Job) -> Stability:
    """Calibrate on two random halves and compare the drift that each gives.

    Measured in the format-neutral model of int8 arithmetic, on some of the evaluation images.
    """
    torch.set_num_threads(job.threads)
    prepared = _prepared(job, None)
    images, evaluation = job.calibration.tensors(), job.evaluation.tensors()
    order = np.random.default_rng(0).permutation(len(images))
    places = np.unique(np.linspace(0, len(evaluation) - 1, _STABILITY_IMAGES).round().astype(int))
    reference = Reference(
        scores=score_images(prepared.scorer, evaluation[places]),
        labels=job.evaluation.labels[places],
        clusters=[job.evaluation.clusters[place] for place in places],
    )
    layers = describe_layers(prepared.scorer, torch.from_numpy(images[:1]))
    halves = []
    for half in (order[::2], order[1::2]):
        observed = observe(prepared.scorer, images[np.sort(half)])
        plan = make_plan(
            layers,
            observed,
            prepared.chain,
            supports=lambda _layer: (Mode.STATIC,),
            allowed=(Mode.STATIC,),
        )
        scorer = fake_quantize(round_weights(prepared.scorer, plan, observed), plan)
        halves.append(measure(score_images(scorer, evaluation[places]), reference))
    return Stability(images=len(places), halves=halves)


def _backend(format_: QuantizedFormat) -> Backend:
    return cast("Backend", importlib.import_module(format_.backend))


def quantize_format(own: FormatJob) -> FormatResult:
    """Build and measure one format's files, from everything in int8 up to the policy.

    Returns:
        The result; the file is at ``path`` only if the last rung has no faults.

    Raises:
        MissingExtraError: A package of the format is not installed.
        EdgeFiqaError: As the backend raises.
    """
    torch.set_num_threads(own.job.threads)
    format_ = FORMATS.get(own.format)
    try:
        return _climb(own, format_, _backend(format_))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in format_.provides:
            raise
        raise MissingExtraError(package, "quantize") from error


def _climb(own: FormatJob, format_: QuantizedFormat, backend: Backend) -> FormatResult:
    start = time.monotonic()
    recipe = own.job.recipe
    prepared = _prepared(own.job, backend)
    observed = _observed(prepared, own.job)
    first = make_plan(
        describe_layers(prepared.scorer, torch.from_numpy(own.job.calibration.tensors()[:1])),
        observed,
        prepared.chain,
        supports=backend.supports,
        allowed=recipe.modes,
        min_int8_share=recipe.min_int8_share,
    )
    steps: list[tuple[str, ...]] = [()]
    if recipe.policy is not None and Mode.FLOAT in recipe.modes:
        steps = ladder(first, own.sensitivities, min_int8_share=recipe.min_int8_share)
    rungs: list[Measured] = []
    for blocks in steps:
        plan = first.without(blocks)
        scorer = round_weights(prepared.scorer, plan, observed if recipe.correct_bias else None)
        with TemporaryDirectory(prefix=".rung-", dir=own.path.parent) as folder:
            stage = Path(folder) / own.path.name
            built = backend.build(
                scorer, plan, size=own.job.size, path=stage, metadata=own.metadata
            )
            scores, measured = measure_file(
                stage,
                own.job,
                reference=own.reference,
                recipe_name=recipe.name,
                float_size=own.float_size,
                layers=built.layers,
                float_blocks=blocks,
            )
            rungs.append(measured)
            if not measured.faults:
                stage.replace(own.path)
                break
    errors = np.abs(scores - own.reference)
    return FormatResult(
        rungs=rungs,
        folded=scorer.folded,
        tools=built.tools,
        structure=built.structure,
        scores=scores.tolist(),
        mean_abs_error=float(errors.mean()),
        worst_image=own.job.evaluation.keys[int(errors.argmax())],
        seconds=time.monotonic() - start,
    )


def measure_file(
    path: Path,
    job: Job,
    *,
    reference: NDArray[np.float64],
    recipe_name: str,
    float_size: int,
    layers: Sequence[Executed] = (),
    float_blocks: tuple[str, ...] = (),
) -> tuple[NDArray[np.float64], Measured]:
    """Score the evaluation images with a file in its own runtime, on one thread.

    Args:
        path: The file.
        job: The images, and the recipe whose bounds it is held against.
        reference: The float model's scores.
        recipe_name: For the record.
        float_size: Size of the fp32 file, in bytes.
        layers: How the file executes each layer, as far as it is known.
        float_blocks: What the search returned to float.

    Returns:
        The scores ``[n]`` and the record.
    """
    scorer = load(path, threads=1)
    images, scores, times = job.evaluation.tensors(), [], []
    for image in images:
        start = time.perf_counter()
        scores.append(float(scorer.score(image[np.newaxis])[0]))
        times.append(time.perf_counter() - start)
    found = np.array(scores)
    figures = measure(
        found,
        Reference(scores=reference, labels=job.evaluation.labels, clusters=job.evaluation.clusters),
    )
    total = sum(own.macs for own in layers)
    share = sum(own.macs for own in layers if own.mode in INT8) / total if total else None
    ratio = size_of(path) / float_size
    policy = load_policy(job.recipe.policy) if job.recipe.policy else None
    return found, Measured(
        format=detect_format(path).value,
        recipe=recipe_name,
        sha256=sha256_of(path),
        runtime=scorer.runtime,
        size_bytes=size_of(path),
        size_ratio=ratio,
        int8_share=share,
        float_blocks=float_blocks,
        layers=tuple(
            LayerRecord(name=own.name, mode=own.mode.value, macs=own.macs, reason=own.reason)
            for own in layers
        ),
        figures=figures,
        images=len(images),
        median_ms=float(np.median(times)) * 1e3,
        faults=broken_rules(
            figures, recipe=job.recipe, policy=policy, size_ratio=ratio, int8_share=share
        ),
    )


@dataclass(frozen=True, kw_only=True)
class VendorRun:
    """A vendor's plain path, to be measured on the same images.

    Attributes:
        job: The images.
        vendor: What the vendor's tool is given.
        reference: The float model's scores.
        float_size: Size of the format's fp32 file, in bytes.
    """

    job: Job
    vendor: VendorJob
    reference: NDArray[np.float64]
    float_size: int


def run_vendor(own: VendorRun) -> Measured:
    """Quantise with a vendor's plain path and measure what comes out; the file is not kept.

    Raises:
        EdgeFiqaError: The tool fails, or its own runtime refuses the file.
    """
    with TemporaryDirectory(prefix=".vendor-", dir=own.vendor.out.parent) as folder:
        path = Path(folder) / own.vendor.out.name
        notes = quantize_with_vendor(replace(own.vendor, out=path))
        if notes.failure is not None:
            raise EdgeFiqaError("its own runtime refuses the file", value=notes.failure)
        _, measured = measure_file(
            path,
            own.job,
            reference=own.reference,
            recipe_name=f"{own.vendor.vendor} {own.vendor.scheme.value}",
            float_size=own.float_size,
        )
    return measured
