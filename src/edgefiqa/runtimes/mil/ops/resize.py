"""Resizing of the last two dimensions by MIL's sampling grids."""

import math

import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]


def _grid(call: Call, mode: str, have: int, want: int, scale: float | None = None) -> Tensor:
    """Return where each output element reads, as MIL's documentation of resize_bilinear states it.

    Args:
        call: The op, for messages.
        mode: The sampling mode.
        have: Input size.
        want: Output size.
        scale: Output elements per input element; None takes ``want / have``.
    """
    places = torch.arange(want, dtype=torch.float64)
    spacing = have / want if scale is None else 1 / scale
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if want == 1:
            places = torch.full((1,), (have - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0).double()
        else:
            places = places * ((have - 1) / (want - 1))
    elif mode == "DEFAULT":
        places = places * spacing
    elif mode == "OFFSET_CORNERS":
        delta = max(1, have - 1) / want
        places = (places + 0.5) * delta
    elif mode == "UNALIGN_CORNERS":
        places = (places + 0.5) * spacing - 0.5
    else:
        raise call.refuse(f"sampling_mode {mode!r}")
    return places.clamp(0, have - 1)


def _interpolate(x: Tensor, axis: int, places: Tensor) -> Tensor:
    """Interpolate linearly along an axis."""
    low = places.floor()
    share = (places - low).to(x.dtype).reshape(-1, *[1] * (-axis - 1))
    first = low.long()
    second = (first + 1).clamp(max=x.shape[axis] - 1)
    return x.index_select(axis, first) * (1 - share) + x.index_select(axis, second) * share


def _linear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return _interpolate(_interpolate(x.float(), -2, rows), -1, columns)


def _nearest(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return x.index_select(-2, rows).index_select(-1, columns)


def _steps(have: int, want: int) -> Tensor:
    """Return the nearest source elements: the whole part of the scaled index."""
    return torch.div(torch.arange(want) * have, want, rounding_mode="floor").clamp(max=have - 1)


def _closest(places: Tensor, have: int) -> Tensor:
    """Return the source elements next to grid positions, the later one of two as near."""
    return (places + 0.5).floor().long().clamp(max=have - 1)


def _resize_bilinear(call: Call) -> Tensor:
    x, mode = call.tensor("x"), call.text("sampling_mode", "DEFAULT")
    height, width = call.integer("target_size_height", 1), call.integer("target_size_width", 1)
    return _linear(x, _grid(call, mode, x.shape[-2], height), _grid(call, mode, x.shape[-1], width))


def _resize_nearest(call: Call) -> Tensor:
    x = call.tensor("x")
    height, width = call.integer("target_size_height"), call.integer("target_size_width")
    return _nearest(x, _steps(x.shape[-2], height), _steps(x.shape[-1], width))


def _scaled(call: Call) -> tuple[Tensor, int, int]:
    x = call.tensor("x")
    factors = (call.number(f"scale_factor_{side}", 1.0) for side in ("height", "width"))
    height, width = (
        math.floor(size * factor) for size, factor in zip(x.shape[-2:], factors, strict=True)
    )
    return x, height, width


def _upsample_nearest(call: Call) -> Tensor:
    x, height, width = _scaled(call)
    return _nearest(x, _steps(x.shape[-2], height), _steps(x.shape[-1], width))


def _upsample_bilinear(call: Call) -> Tensor:
    x, height, width = _scaled(call)
    corners = not call.has("align_corners") or call.flag("align_corners")
    half = call.flag("half_pixel_centers") if call.has("half_pixel_centers") else not corners
    mode = "STRICT_ALIGN_CORNERS" if corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    return _linear(x, _grid(call, mode, x.shape[-2], height), _grid(call, mode, x.shape[-1], width))


def _resize(call: Call) -> Tensor:
    x, count = call.tensor("x"), call.integer("resized_dims")
    wanted = call.ints("shape")[-count:] if count else ()
    if count > 2:
        raise call.refuse("more than two resized dimensions")
    sides = [size or x.shape[axis - count] for axis, size in enumerate(wanted)]
    height, width = [*x.shape[-2 : x.dim() - count], *sides]
    mode = call.text("sampling_mode", "DEFAULT")
    rows, columns = _grid(call, mode, x.shape[-2], height), _grid(call, mode, x.shape[-1], width)
    if call.text("interpolation_mode", "LINEAR") == "NEAREST_NEIGHBOR":
        return _nearest(x, _closest(rows, x.shape[-2]), _closest(columns, x.shape[-1]))
    return _linear(x, rows, columns)


OPS: dict[str, Kernel] = {
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest,
}
