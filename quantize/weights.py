"""Weights on their int8 grid, and the biases that make up for the rounding.

What leaves here is float32, but every weight of an int8 layer is ``code · scale`` with a scale an
output channel and codes of −127..127, 127 among them: whatever quantises it again symmetrically by
its largest value gets the very same codes. So the rounding is decided once, for all formats.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.quantize.plan import Mode, Plan
from edgefiqa.quantize.statistics import Observed

__all__ = ["on_grid", "round_weights"]

_CLIPS = torch.linspace(1.0, 0.8, 21).tolist()


@torch.no_grad()
def on_grid(weight: Tensor) -> Tensor:
    """Round a weight to int8 codes of one scale an output channel, by least squared error.

    Args:
        weight: float32 ``[out, …]``.

    Returns:
        The rounded weight, float32.
    """
    rows = weight.flatten(1).double()
    largest = rows.abs().amax(1, keepdim=True).clamp_min(1e-30)
    best, least = torch.zeros_like(rows), torch.full_like(largest, torch.inf)
    for clip in _CLIPS:
        scale = (largest * clip / 127).float().double()  # float32 is what files hold
        rounded = torch.clamp(torch.round(rows / scale), -127, 127) * scale
        error = ((rounded - rows) ** 2).sum(1, keepdim=True)
        best = torch.where(error < least, rounded, best)
        least = torch.minimum(least, error)
    return best.float().view_as(weight)


@torch.no_grad()
def round_weights(
    scorer: ExportScorer,
    plan: Plan,
    observed: Mapping[str, Observed] | None = None,
) -> ExportScorer:
    """Put the weights of all int8 layers of a plan on their grid.

    Args:
        scorer: The prepared network; it is not changed.
        plan: Which layers.
        observed: What the layers read: each bias then takes back the mean error that the rounding
            makes, ``b + (W − Ŵ) E[x]`` (Nagel et al. 2019, arXiv 1906.04721, eq. 17). None leaves
            biases as they are.

    Returns:
        A copy.
    """
    own = copy.deepcopy(scorer)
    for name in plan.in_mode(Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT):
        layer = own.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        rounded = on_grid(layer.weight)
        if observed is not None:
            mean = observed[name].input_mean
            assert mean is not None
            _correct_bias(layer, layer.weight - rounded, mean)
        layer.weight = nn.Parameter(rounded)
    return own


def _correct_bias(layer: nn.Conv2d | nn.Linear, lost: Tensor, mean: Tensor) -> None:
    """Add what the rounding loses on a mean input; padding is taken for more of the same."""
    taps = lost.double().flatten(2).sum(2) if lost.dim() == 4 else lost.double()
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        per_group = layer.in_channels // layer.groups
        groups = mean.view(layer.groups, per_group)
        readers = layer.out_channels // layer.groups
        shift = (taps * groups.repeat_interleave(readers, 0)).sum(1)
    else:
        shift = taps @ mean
    bias = torch.zeros(len(shift)) if layer.bias is None else layer.bias
    layer.bias = nn.Parameter((bias.double() + shift).float())
