"""Weights on their int8 grid, and the biases that make up for the rounding.

What leaves here is float32, but every weight of an int8 layer is ``code · scale`` with a scale an
output channel and codes of −127..127, 127 among them: whatever quantises it again symmetrically by
its largest value gets the very same codes. So the rounding is decided once, for all formats.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgefiqa.convert import ExportScorer
from edgefiqa.quantize.plan import Mode, QuantizationPlan
from edgefiqa.quantize.statistics import Observed

__all__ = ["on_grid", "round_weights"]

_CLIPS = torch.linspace(1.0, 0.8, 21).tolist()
_DAMPING = 0.01


@torch.no_grad()
def on_grid(weight: Tensor, covariance: Tensor | None = None) -> Tensor:
    """Round a weight to int8 codes of one scale an output channel.

    By least squared error of the weight; of the layer's output, if it is known how the layer's
    inputs vary together: what one weight's rounding changes is then made up for by those that are
    rounded after it (GPTQ: Frantar et al. 2022, arXiv 2210.17323, eq. 2, 3), and an output channel
    takes the result if it is the better one.

    Args:
        weight: float32 ``[out, …]``.
        covariance: float64 ``[groups, d, d]``, see ``Observed``.

    Returns:
        The rounded weight, float32.
    """
    rows = weight.flatten(1).double()
    largest = rows.abs().amax(1, keepdim=True).clamp_min(1e-30)
    best, least = torch.zeros_like(rows), torch.full_like(largest, torch.inf)
    scales = torch.ones_like(largest)
    for clip in _CLIPS:
        scale = (largest * clip / 127).float().double()  # float32 is what files hold
        rounded = torch.clamp(torch.round(rows / scale), -127, 127) * scale
        error = ((rounded - rows) ** 2).sum(1, keepdim=True)
        best = torch.where(error < least, rounded, best)
        scales = torch.where(error < least, scale, scales)
        least = torch.minimum(least, error)
    if covariance is not None:
        best = _compensated(rows, best, scales, covariance)
    return best.float().view_as(weight)


def _compensated(rows: Tensor, nearest: Tensor, scales: Tensor, covariance: Tensor) -> Tensor:
    """Round again, one column after the other; the largest weight of a row keeps its code.

    Args:
        rows: Weights, ``[out, d]``.
        nearest: The same, each rounded alone.
        scales: ``[out, 1]``.
        covariance: ``[groups, d, d]``.
    """
    groups, size = covariance.shape[:2]
    variances = covariance.diagonal(dim1=1, dim2=2)
    damping = _DAMPING * variances.mean(1, keepdim=True) + 1e-12
    damped = covariance + torch.diag_embed(damping.expand(groups, size))
    # The columns that vary most first: there are more left to make up for them.
    order = variances.argsort(1, descending=True)
    damped = damped.gather(1, order[:, :, None].expand_as(damped))
    damped = damped.gather(2, order[:, None, :].expand_as(damped))
    upper = torch.linalg.cholesky(torch.linalg.inv(damped)).mT

    per_row = order[:, None].expand(groups, len(rows) // groups, size)

    def grouped(values: Tensor) -> Tensor:
        return values.view(groups, -1, size).gather(2, per_row)

    left, fixed, scale = grouped(rows).clone(), grouped(nearest), scales.view(groups, -1)
    peaks = torch.zeros_like(nearest, dtype=torch.bool)
    peaks[torch.arange(len(rows)), nearest.abs().argmax(1)] = True
    peaks = grouped(peaks)
    done = torch.empty_like(left)
    for column in range(size):
        codes = torch.clamp(torch.round(left[..., column] / scale), -127, 127)
        done[..., column] = torch.where(peaks[..., column], fixed[..., column], codes * scale)
        lost = (left[..., column] - done[..., column]) / upper[:, None, column, column]
        left[..., column:] -= lost[..., None] * upper[:, None, column, column:]
    found = torch.empty_like(done).scatter_(2, per_row, done).view_as(rows)

    def output_error(rounded: Tensor) -> Tensor:
        lost = (rounded - rows).view(groups, -1, size)
        return ((lost @ covariance) * lost).sum(2).view(-1, 1)

    return torch.where(output_error(found) < output_error(nearest), found, nearest)


@torch.no_grad()
def round_weights(
    scorer: ExportScorer,
    plan: QuantizationPlan,
    observed: Mapping[str, Observed] | None = None,
) -> ExportScorer:
    """Put the weights of all int8 layers of a plan on their grid.

    Args:
        scorer: The prepared network; it is not changed.
        plan: Which layers.
        observed: What the layers read: rounding then changes a layer's output least, and each bias
            takes back the mean error that is left, ``b + (W − Ŵ) E[x]`` (Nagel et al. 2019, arXiv
            1906.04721, eq. 17). None rounds each weight alone and leaves biases as they are.

    Returns:
        A copy.
    """
    changed = copy.deepcopy(scorer)
    for name in plan.in_mode(Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT):
        layer = changed.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        flows = None if observed is None else observed[name]
        rounded = on_grid(layer.weight, None if flows is None else flows.covariance)
        if flows is not None:
            mean = flows.input_mean
            assert mean is not None
            _correct_bias(layer, layer.weight - rounded, mean)
        layer.weight = nn.Parameter(rounded)
    return changed


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
