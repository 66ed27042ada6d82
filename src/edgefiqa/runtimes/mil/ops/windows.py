"""Padding of the ops that slide a window: convolution and pooling."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call

__all__ = ["Pads", "pad_spatial", "symmetric", "window_pads"]

Pads = list[tuple[int, int]]
"""Elements before and after, for each spatial dimension."""


def window_pads(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Return the padding that ``pad_type`` asks for.

    Args:
        call: The op, with ``pad_type`` and, for "custom", ``pad``.
        sizes: Spatial dimensions of the input.
        kernel: The window's, dilation included.
        strides: Its steps.
    """
    kind = call.text("pad_type", "valid").lower()
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        pad = call.ints("pad")
        return list(zip(pad[::2], pad[1::2], strict=True))
    if kind not in ("same", "same_lower"):
        raise call.refuse(f"pad_type {kind!r}")
    pads = []
    for size, width, stride in zip(sizes, kernel, strides, strict=True):
        total = max(0, stride * math.ceil(size / stride) - size + width - stride)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if kind == "same" else (more, less))
    return pads


def symmetric(pads: Pads) -> bool:
    """Tell whether torch's padding can express it."""
    return all(before == after for before, after in pads)


def pad_spatial(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Pad the spatial dimensions."""
    flat = [number for pair in reversed(pads) for number in pair]
    return F.pad(x, flat, value=value) if any(flat) else x
