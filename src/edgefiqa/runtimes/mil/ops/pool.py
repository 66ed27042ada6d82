"""Pooling. The padding is done here, because torch knows neither uneven nor SAME padding."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel
from edgefiqa.runtimes.mil.ops.windows import Pads, pad_spatial, symmetric, window_pads

__all__ = ["OPS"]

_AVERAGE: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_LARGEST: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _overhang(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Pads
) -> Pads:
    """Return what ``ceil_mode`` adds after the padding, so that the last window fits."""
    found = []
    for size, width, stride, (before, after) in zip(sizes, kernel, strides, pads, strict=True):
        padded = size + before + after
        count = (padded - width) // stride + 1
        if call.flag("ceil_mode"):
            count = (padded - width + stride - 1) // stride + 1
            # No window may start in the padding after the input.
            if (count - 1) * stride >= size + before and before + after > 0:
                count -= 1
        found.append((0, max(0, (count - 1) * stride + width - padded)))
    return found


def _geometry(call: Call) -> tuple[Tensor, tuple[int, ...], tuple[int, ...], Pads, Pads]:
    x, kernel = call.tensor("x"), call.ints("kernel_sizes")
    strides = call.ints("strides") if call.has("strides") else (1,) * len(kernel)
    pads = window_pads(call, x.shape[2:], kernel, strides)
    return x, kernel, strides, pads, _overhang(call, x.shape[2:], kernel, strides, pads)


def _max_pool(call: Call) -> Tensor:
    x, kernel, strides, pads, overhang = _geometry(call)
    padding = [before for before, _ in pads]
    plain = symmetric(pads) and not any(after for _, after in overhang)
    if not plain or any(2 * pad > width for pad, width in zip(padding, kernel, strict=True)):
        x = pad_spatial(pad_spatial(x, pads, -math.inf), overhang, -math.inf)
        padding = [0] * len(kernel)
    found: Tensor = _LARGEST[len(kernel)](x, kernel, strides, padding)
    return found


def _avg_pool(call: Call) -> Tensor:
    x, kernel, strides, pads, overhang = _geometry(call)
    average = _AVERAGE[len(kernel)]
    means: Tensor = average(pad_spatial(pad_spatial(x, pads), overhang), kernel, strides)
    # The padding counts unless it is excluded; the overhang of ceil_mode never does.
    excluded = call.flag("exclude_padding_from_average")
    if not any(after for _, after in overhang) and not (excluded and any(map(any, pads))):
        return means
    counted = pad_spatial(torch.ones(1, 1, *x.shape[2:]), pads, 0.0 if excluded else 1.0)
    shares: Tensor = average(pad_spatial(counted, overhang), kernel, strides)
    return means / shares


def _l2_pool(call: Call) -> Tensor:
    x, kernel, strides, pads, overhang = _geometry(call)
    padded = pad_spatial(pad_spatial(x.square(), pads), overhang)
    means: Tensor = _AVERAGE[len(kernel)](padded, kernel, strides)
    return torch.sqrt(means * math.prod(kernel))


OPS: dict[str, Kernel] = {"avg_pool": _avg_pool, "l2_pool": _l2_pool, "max_pool": _max_pool}
