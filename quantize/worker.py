"""What one process does for all formats: score, rank the blocks, measure a file or a vendor's path.

Everything goes in and out by value or as files.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgefiqa.convert import prepare_scorer
from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import sha256_of, size_of
from edgefiqa.measuring.policy import load_policy
from edgefiqa.measuring.records import Figure
from edgefiqa.models import load_model
from edgefiqa.quantize.backends.base import Backend, LayerExecution
from edgefiqa.quantize.engine import INT8, BlockSensitivity, make_plan, rank_blocks
from edgefiqa.quantize.images import Images
from edgefiqa.quantize.measured import (
    FloatReference,
    LayerRecord,
    MeasuredFile,
    broken_rules,
    measure,
)
from edgefiqa.quantize.plan import Mode
from edgefiqa.quantize.preparation import Prepared, prepare_for_int8
from edgefiqa.quantize.reference import fake_quantize, score_images
from edgefiqa.quantize.settings import QuantizeRecipe
from edgefiqa.quantize.statistics import describe_layers, observe
from edgefiqa.quantize.vendor.base import VendorJob
from edgefiqa.quantize.vendor.run import quantize_with_vendor
from edgefiqa.quantize.weights import round_weights
from edgefiqa.runtimes import Scorer, detect_format, load
from edgefiqa.runtimes.torch import score_with_torch

__all__ = [
    "Job",
    "Stability",
    "VendorRun",
    "check_stability",
    "measure_file",
    "prepare_job",
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
        threads: Threads that torch uses.
    """

    source: str
    size: int
    recipe: QuantizeRecipe
    calibration: Images
    evaluation: Images
    threads: int


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
    def inside(figure: Figure, other: Figure) -> bool:
        if figure.value is None or other.low is None or other.high is None:
            return figure.value is None and other.value is None
        return other.low <= figure.value <= other.high

    return not (inside(first, second) or inside(second, first))


def score_reference(job: Job) -> NDArray[np.float64]:
    """Score the evaluation images with the network as trained, in torch."""
    torch.set_num_threads(job.threads)
    model, _ = load_model(job.source)
    return score_with_torch(model, job.evaluation.tensors()).astype(np.float64)


def prepare_job(job: Job, backend: Backend | None = None) -> Prepared:
    """Build the network of a run and rewrite it for int8, as a format needs it."""
    model, _ = load_model(job.source)
    scorer = prepare_scorer(model, job.size)
    if backend is not None:
        scorer = backend.variant(scorer)
    return prepare_for_int8(scorer, job.calibration.tensors(), smooth_channels=job.recipe.smooth)


def rank(job: Job) -> list[BlockSensitivity]:
    """Rank the blocks in the format-neutral model of int8 arithmetic."""
    torch.set_num_threads(job.threads)
    prepared = prepare_job(job)
    images = job.calibration.tensors()
    observed = observe(prepared.scorer, images)
    layers = describe_layers(prepared.scorer, torch.from_numpy(images[:1]))
    places = np.linspace(0, len(images) - 1, min(job.recipe.sensitivity_images, len(images)))
    chosen = images[places.round().astype(int)]
    found: list[BlockSensitivity] = []
    for mode in INT8:
        plan = make_plan(
            layers,
            observed,
            prepared.chain,
            supports=lambda _layer: INT8,
            allowed=(mode,),
        )
        found += rank_blocks(prepared.scorer, plan, observed, chosen, on_block=_log.info)
    return found


def check_stability(job: Job) -> Stability:
    """Calibrate on two random halves and compare the drift that each gives.

    MeasuredFile in the format-neutral model of int8 arithmetic, on some of the evaluation images.
    """
    torch.set_num_threads(job.threads)
    prepared = prepare_job(job)
    images, evaluation = job.calibration.tensors(), job.evaluation.tensors()
    order = np.random.default_rng(0).permutation(len(images))
    places = np.unique(np.linspace(0, len(evaluation) - 1, _STABILITY_IMAGES).round().astype(int))
    reference = FloatReference(
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


def measure_file(
    path: Path,
    job: Job,
    *,
    reference: NDArray[np.float64],
    recipe_name: str,
    float_size: int,
    layers: Sequence[LayerExecution] = (),
    float_blocks: tuple[str, ...] = (),
) -> tuple[NDArray[np.float64], MeasuredFile]:
    """Score the evaluation images with a file in its runtime, on one thread.

    Args:
        path: The file.
        job: The images, and the recipe whose bounds it is held against.
        reference: The float model's scores.
        recipe_name: Name of the recipe, for the record.
        float_size: Size of the fp32 file, in bytes.
        layers: How the file executes each layer, as far as it is known.
        float_blocks: What the search returned to float.

    Returns:
        The scores ``[n]`` and the record.
    """
    scorer = load(path, threads=1)
    found, median_ms = _score_timed(scorer, job.evaluation.tensors())
    figures = measure(
        found,
        FloatReference(
            scores=reference, labels=job.evaluation.labels, clusters=job.evaluation.clusters
        ),
    )
    share, ratio = _int8_share(layers), size_of(path) / float_size
    policy = load_policy(job.recipe.policy) if job.recipe.policy else None
    return found, MeasuredFile(
        format=detect_format(path).value,
        recipe=recipe_name,
        sha256=sha256_of(path),
        runtime=scorer.runtime,
        size_bytes=size_of(path),
        size_ratio=ratio,
        int8_share=share,
        float_blocks=float_blocks,
        layers=tuple(
            LayerRecord(
                name=layer.name, mode=layer.mode.value, macs=layer.macs, reason=layer.reason
            )
            for layer in layers
        ),
        figures=figures,
        images=len(found),
        median_ms=median_ms,
        faults=broken_rules(
            figures, recipe=job.recipe, policy=policy, size_ratio=ratio, int8_share=share
        ),
    )


def _score_timed(scorer: Scorer, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float]:
    """Score images ``[n, S, S, 3]`` one by one.

    Returns:
        The scores ``[n]``, and the median time of an image in milliseconds.
    """
    scores, times = [], []
    for image in images:
        start = time.perf_counter()
        scores.append(float(scorer.score(image[np.newaxis])[0]))
        times.append(time.perf_counter() - start)
    return np.array(scores), float(np.median(times)) * 1e3


def _int8_share(layers: Sequence[LayerExecution]) -> float | None:
    """Return the share of multiply-adds that are executed in int8; None where none is known."""
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.mode in INT8) / total if total else None


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


def run_vendor(run: VendorRun) -> MeasuredFile:
    """Quantise with a vendor's plain path and measure what comes out; the file is not kept.

    Raises:
        EdgeFiqaError: The tool fails, or its runtime refuses the file.
    """
    with TemporaryDirectory(prefix=".vendor-", dir=run.vendor.out.parent) as folder:
        path = Path(folder) / run.vendor.out.name
        notes = quantize_with_vendor(replace(run.vendor, out=path))
        if notes.failure is not None:
            raise EdgeFiqaError("its runtime refuses the file", value=notes.failure)
        _, measured = measure_file(
            path,
            run.job,
            reference=run.reference,
            recipe_name=f"{run.vendor.vendor} {run.vendor.scheme.value}",
            float_size=run.float_size,
        )
    return measured
