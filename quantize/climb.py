"""One format: climb from everything in int8 to the first file that keeps the policy.

Some runtimes and toolkits crash when they are loaded together, so each format runs in a separate
process.
"""

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgefiqa.errors import MissingExtraError, UsageError
from edgefiqa.files import put
from edgefiqa.manifest import FileMetadata
from edgefiqa.quantize.backends.base import Backend
from edgefiqa.quantize.engine import (
    BlockSensitivity,
    Modes,
    ladder,
    make_plan,
    ranges_per_image,
    return_blocks,
)
from edgefiqa.quantize.formats import FORMATS, QuantizedFormat
from edgefiqa.quantize.measured import MeasuredFile
from edgefiqa.quantize.plan import Mode, QuantizationPlan
from edgefiqa.quantize.preparation import Prepared
from edgefiqa.quantize.reference import correct_score, score_images
from edgefiqa.quantize.statistics import Observed, describe_layers, observe
from edgefiqa.quantize.weights import round_weights
from edgefiqa.quantize.worker import Job, measure_file, prepare_job

__all__ = ["FormatJob", "FormatResult", "quantize_format"]


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
        sensitivities: Sensitivities of all blocks.
    """

    job: Job
    format: str
    path: Path
    float_size: int
    metadata: FileMetadata
    reference: NDArray[np.float64]
    sensitivities: list[BlockSensitivity]


class FormatResult(BaseModel):
    """What one format came to.

    Attributes:
        rungs: Every file that was built and measured, in order; the last is the one that was
            written, if it has no faults.
        folded: The exact rewrites that are in the files.
        tools: Packages involved, with versions.
        structure: Operators of the last file.
        scores: Scores of the last file on the evaluation images.
        mean_abs_error: Mean absolute difference of these scores to the float model's.
        worst_image: The image with the largest error.
        seconds: Time taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rungs: list[MeasuredFile]
    folded: list[str]
    tools: dict[str, str]
    structure: dict[str, Any]
    scores: list[float]
    mean_abs_error: float
    worst_image: str
    seconds: float


def _backend(format_: QuantizedFormat) -> Backend:
    return cast("Backend", importlib.import_module(format_.backend))


def quantize_format(format_job: FormatJob) -> FormatResult:
    """Build and measure one format's files, from everything in int8 up to the policy.

    Returns:
        The result; the file is at ``path`` only if the last rung has no faults.

    Raises:
        MissingExtraError: A package of the format is not installed.
        UsageError: The format could only repeat its float file.
        EdgeFiqaError: As the backend raises.
    """
    torch.set_num_threads(format_job.job.threads)
    format_ = FORMATS.get(format_job.format)
    try:
        return _climb(format_job, format_, _backend(format_))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in format_.provides:
            raise
        raise MissingExtraError(package, "quantize") from error


def _climb(format_job: FormatJob, format_: QuantizedFormat, backend: Backend) -> FormatResult:
    start = time.monotonic()
    recipe, images = format_job.job.recipe, format_job.job.calibration.tensors()
    prepared = prepare_job(format_job.job, backend)
    observed = observe(prepared.scorer, images)
    wanted = score_images(prepared.scorer, images)
    rungs: list[MeasuredFile] = []
    for plan, blocks in _rungs(format_job, prepared, observed, backend):
        scorer = round_weights(prepared.scorer, plan, observed if recipe.correct_bias else None)
        if recipe.correct_bias:
            correct_score(scorer, plan, images, wanted, round_outputs=format_.round_outputs)
        with TemporaryDirectory(prefix=".rung-", dir=format_job.path.parent) as folder:
            stage = Path(folder) / format_job.path.name
            built = backend.build(
                scorer, plan, size=format_job.job.size, path=stage, metadata=format_job.metadata
            )
            scores, measured = measure_file(
                stage,
                format_job.job,
                reference=format_job.reference,
                recipe_name=recipe.name,
                float_size=format_job.float_size,
                layers=built.layers,
                float_blocks=blocks,
            )
            rungs.append(measured)
            if not measured.faults:
                put(stage, format_job.path)
                break
    errors = np.abs(scores - format_job.reference)
    return FormatResult(
        rungs=rungs,
        folded=scorer.folded,
        tools=built.tools,
        structure=built.structure,
        scores=scores.tolist(),
        mean_abs_error=float(errors.mean()),
        worst_image=format_job.job.evaluation.keys[int(errors.argmax())],
        seconds=time.monotonic() - start,
    )


def _rungs(
    format_job: FormatJob, prepared: Prepared, observed: dict[str, Observed], backend: Backend
) -> Iterator[tuple[QuantizationPlan, tuple[str, ...]]]:
    """Yield the plans to try, and the blocks that each returns to float."""
    recipe = format_job.job.recipe
    image = torch.from_numpy(format_job.job.calibration.tensors()[:1])
    layers = describe_layers(prepared.scorer, image)

    def plan_for(supports: Modes) -> QuantizationPlan:
        return make_plan(
            layers,
            observed,
            prepared.chain,
            supports=supports,
            allowed=recipe.modes,
            min_int8_share=recipe.min_int8_share,
        )

    first = plan_for(backend.supports)
    if all(layer.mode is Mode.FLOAT for layer in first.layers):
        raise UsageError(
            f"{format_job.format} has none of the recipe's int8 forms",
            value=", ".join(recipe.modes),
            next_step=f"choose another recipe, or leave {format_job.format} out with --to",
        )
    yield first, ()
    if recipe.policy is None or Mode.FLOAT not in recipe.modes:
        return
    second = plan_for(ranges_per_image(backend.supports))
    for blocks in ladder(second, format_job.sensitivities, min_int8_share=recipe.min_int8_share):
        plan = return_blocks(second, blocks, supports=backend.supports, allowed=recipe.modes)
        if plan != first:
            yield plan, blocks
