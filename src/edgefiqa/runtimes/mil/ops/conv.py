"""Convolutions: in float32, rounded once."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel
from edgefiqa.runtimes.mil.ops.windows import pad_spatial, symmetric, window_pads

__all__ = ["OPS"]

_CONV: dict[int, Callable[..., Any]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE: dict[int, Callable[..., Any]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def _geometry(call: Call, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    ones = (1,) * rank
    strides = call.ints("strides") if call.has("strides") else ones
    dilations = call.ints("dilations") if call.has("dilations") else ones
    return strides, dilations, call.integer("groups", 1)


def _conv(call: Call) -> Tensor:
    x, weight = call.tensor("x"), call.tensor("weight")
    rank = weight.dim() - 2
    strides, dilations, groups = _geometry(call, rank)
    extents = [
        (size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True)
    ]
    pads = window_pads(call, x.shape[2:], extents, strides)
    padding = [before for before, _ in pads]
    if not symmetric(pads):
        x, padding = pad_spatial(x, pads), [0] * rank
    found: Tensor = _CONV[rank](
        x, weight, call.optional("bias"), strides, padding, dilations, groups
    )
    return found


def _conv_transpose(call: Call) -> Tensor:
    x, weight = call.tensor("x"), call.tensor("weight")
    rank = weight.dim() - 2
    strides, dilations, groups = _geometry(call, rank)
    full: Tensor = _TRANSPOSE[rank](
        x, weight, stride=strides, padding=0, groups=groups, dilation=dilations
    )
    kind = call.text("pad_type", "valid").lower()
    pad = call.ints("pad") if kind == "custom" and call.has("pad") else (0,) * (2 * rank)
    for axis in range(rank):
        size, have = x.shape[2 + axis], full.shape[2 + axis]
        if call.has("output_shape"):
            wanted = call.ints("output_shape")[2 + axis]
        elif kind == "same":
            wanted = size * strides[axis]
        else:
            wanted = have - pad[2 * axis] - pad[2 * axis + 1]
        start = max(0, have - wanted) // 2 if kind == "same" else pad[2 * axis]
        part = full.narrow(2 + axis, start, min(wanted, have - start))
        missing = wanted - part.shape[2 + axis]  # reached by no input: the bias alone
        full = pad_spatial(part, [(0, missing if a == axis else 0) for a in range(rank)])
    bias = call.optional("bias")
    return full if bias is None else torch.add(full, bias.reshape(-1, *[1] * rank))


OPS: dict[str, Kernel] = {"conv": _conv, "conv_transpose": _conv_transpose}
