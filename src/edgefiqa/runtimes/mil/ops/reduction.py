"""Reductions, accumulated in float32."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]

_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _over_axes(function: _Reduction) -> Kernel:
    def kernel(call: Call) -> Tensor:
        x = call.tensor("x")
        given = call.ints("axes") if call.has("axes") else ()
        axes = sorted(axis % max(x.dim(), 1) for axis in given) or list(range(x.dim()))
        return function(x, axes, call.flag("keep_dims"))

    return kernel


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.float().mean(axes, keep).to(x.dtype)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keepdim=keep)
    return x


def _arg(function: Callable[[Tensor, int, bool], Tensor]) -> Kernel:
    return lambda call: function(call.tensor("x"), call.integer("axis", -1), call.flag("keep_dims"))


OPS: dict[str, Kernel] = {
    "reduce_argmax": _arg(torch.argmax),
    "reduce_argmin": _arg(torch.argmin),
    "reduce_l1_norm": _over_axes(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "reduce_l2_norm": _over_axes(lambda x, axes, keep: x.square().sum(axes, keep).float().sqrt()),
    "reduce_log_sum": _over_axes(lambda x, axes, keep: x.sum(axes, keep).float().log()),
    "reduce_log_sum_exp": _over_axes(lambda x, axes, keep: x.float().logsumexp(axes, keep)),
    "reduce_max": _over_axes(torch.amax),
    "reduce_mean": _over_axes(_mean),
    "reduce_min": _over_axes(torch.amin),
    "reduce_prod": _over_axes(_prod),
    "reduce_sum": _over_axes(lambda x, axes, keep: x.sum(axes, keep)),
    "reduce_sum_square": _over_axes(lambda x, axes, keep: x.square().sum(axes, keep)),
}
