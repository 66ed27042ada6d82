"""The plan executed in torch: what int8 does to the scores, whatever the format.

A format-neutral model of int8 arithmetic: weights as they are given (on their grid), the input of
each int8 layer rounded to 8 bits, and what a static one writes, as integer kernels do. It ranks
blocks and predicts drift; what is shipped is measured in the file's runtime.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert import ExportScorer
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan, Range

__all__ = ["correct_score", "fake_quantize", "score_images"]


def _round_static(values: Tensor, range_: Range) -> Tensor:
    scale, zero = range_.affine(signed=False)
    return (torch.clamp(torch.round(values / scale) + zero, 0, 255) - zero) * scale


def _round_dynamic(values: Tensor) -> Tensor:
    """Round with a range a row (tokens) or an image (maps), as XNNPACK's qd8 kernels do."""
    axes = (-1,) if values.dim() == 3 else tuple(range(1, values.dim()))
    low = values.amin(axes, keepdim=True).clamp_max(0)
    high = values.amax(axes, keepdim=True).clamp_min(0)
    scale = ((high - low) / 255).clamp_min(1e-12)
    zero = torch.round(-low / scale)
    return (torch.clamp(torch.round(values / scale) + zero, 0, 255) - zero) * scale


def fake_quantize(
    scorer: ExportScorer, plan: QuantizationPlan, *, round_outputs: bool = True
) -> ExportScorer:
    """Return a copy whose int8 layers read rounded inputs.

    Args:
        scorer: With weights on their grid.
        plan: The plan.
        round_outputs: Whether static layers write 8 bits too; the one that reads pixels does not.
    """
    changed = copy.deepcopy(scorer)
    for layer in plan.layers:
        module = changed.get_submodule(layer.layer.name)
        if layer.mode in (Mode.STATIC, Mode.DYNAMIC):
            _round_inputs(module, layer)
        if layer.mode is Mode.STATIC and round_outputs and not layer.layer.pixels:
            _round_outputs(module, layer)
    return changed


def _round_inputs(module: nn.Module, plan: LayerPlan) -> None:
    def rounded(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if plan.mode is Mode.STATIC:
            assert plan.input is not None
            return (_round_static(given[0], plan.input),)
        return (_round_dynamic(given[0]),)

    module.register_forward_pre_hook(rounded)


def _round_outputs(module: nn.Module, plan: LayerPlan) -> None:
    def rounded(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
        assert plan.output is not None
        return _round_static(output, plan.output)

    module.register_forward_hook(rounded)


@torch.no_grad()
def correct_score(
    scorer: ExportScorer,
    plan: QuantizationPlan,
    images: NDArray[np.uint8],
    wanted: NDArray[np.float64],
    *,
    round_outputs: bool = True,
) -> float:
    """Take the mean error that int8 arithmetic makes out of the score, in place.

    The last layer's bias takes it back: what rounding of weights and activations does to the mean
    is measured through the whole network (Nagel et al. 2019, arXiv 1906.04721, section 4.2).

    Args:
        scorer: With weights on their grid.
        plan: The plan.
        images: Calibration images, uint8 ``[n, S, S, 3]``.
        wanted: The float network's scores of them, ``[n]``.
        round_outputs: As of `fake_quantize`.

    Returns:
        The mean error that was taken out.
    """
    found = score_images(fake_quantize(scorer, plan, round_outputs=round_outputs), images)
    error = float((found - wanted).mean())
    for planned in plan.layers:
        if planned.layer.regression:
            bias = scorer.get_submodule(planned.layer.name).bias
            assert isinstance(bias, nn.Parameter)
            bias.sub_(error)
    return error


def score_images(scorer: ExportScorer, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Score images one by one.

    Args:
        scorer: uint8 ``[1, S, S, 3]`` → float32 ``[1]``.
        images: uint8 ``[n, S, S, 3]``.

    Returns:
        float64 ``[n]``.
    """
    with torch.inference_mode():
        scores = [float(scorer(torch.from_numpy(image[np.newaxis]))[0]) for image in images]
    return np.array(scores)
