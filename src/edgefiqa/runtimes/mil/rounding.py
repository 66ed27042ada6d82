"""Rounding to float16 and measuring magnitudes, in pieces that fit a processor's cache."""

import math

import torch
from torch import Tensor

__all__ = ["FLOATS", "magnitude", "round_to_half"]

FLOATS = ("fp16", "fp32")
"""Declared types that are carried as float32."""

_PIECE = 1 << 16  # elements: 256 kB as float32, 128 kB as float16


def _flat(value: Tensor) -> Tensor | None:
    """Return a dense tensor's memory as a vector, whatever the order of its dimensions."""
    if value.is_contiguous():
        return value.view(-1)
    expected = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size != 1 and stride != expected:
            return None
        expected *= size
    return value.as_strided((value.numel(),), (1,), value.storage_offset())


def magnitude(value: Tensor) -> float:
    """Return the largest finite magnitude."""
    if not value.numel():
        return 0.0
    low, high = torch.aminmax(value)
    found = max(-low.item(), high.item())
    if math.isfinite(found):
        return found
    finite = value[torch.isfinite(value)]
    return float(finite.abs().max()) if finite.numel() else 0.0


def round_to_half(value: Tensor, *, in_place: bool, measure: bool) -> tuple[Tensor, float]:
    """Round float32 to what float16 can hold; beyond 65504 (rounded) it becomes infinite.

    Args:
        value: float32.
        in_place: Whether the tensor may be changed; it saves a pass over memory.
        measure: Whether its magnitude is wanted.

    Returns:
        The rounded values, and the largest finite magnitude before rounding (0 if not measured).
    """
    memory = _flat(value) if in_place else None
    if memory is None or memory.numel() <= _PIECE:
        return value.half().float(), magnitude(value) if measure else 0.0
    top = 0.0
    half = torch.empty(_PIECE, dtype=torch.float16)
    for piece in torch.split(memory, _PIECE):
        if measure:
            top = max(top, magnitude(piece))
        scratch = half[: piece.numel()]
        scratch.copy_(piece)
        piece.copy_(scratch)
    return value, top
