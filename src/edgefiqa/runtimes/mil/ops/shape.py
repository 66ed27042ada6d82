"""Ops that only move data: nothing is rounded after them."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]


def _reshape(call: Call) -> Tensor:
    x, wanted = call.tensor("x"), list(call.ints("shape"))
    for back in range(1, len(wanted) + 1):
        if wanted[-back] == 0:  # copied from the input, counted from the right
            wanted[-back] = x.shape[-back] if back <= x.dim() else 1
    return x.reshape(wanted)


def _reshape_like(call: Call) -> Tensor:
    shape: list[int] = []
    parts = (call.tensors(name) for name in ("ref_tensors", "begins", "ends", "end_masks"))
    for reference, begin, end, mask in zip(*parts, strict=True):
        shape += reference.shape[int(begin) : None if bool(mask) else int(end)]
    return call.tensor("x").reshape(shape)


def _expand_dims(call: Call) -> Tensor:
    x, axes = call.tensor("x"), call.ints("axes")
    shape = list(x.shape)
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return x.reshape(shape)


def _squeeze(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.squeeze(call.ints("axes")) if call.has("axes") else x.squeeze()


def _take(x: Tensor, axis: int, chosen: range) -> Tensor:
    """Take the elements of a range along an axis, as a view where its step is positive."""
    if chosen.step > 0:
        cut = [slice(None)] * x.dim()
        cut[axis] = slice(chosen.start, chosen.stop, chosen.step)
        return x[tuple(cut)]
    return x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))


def _masks(call: Call, name: str, rank: int) -> tuple[int, ...]:
    return call.ints(name) if call.has(name) else (0,) * rank


def _slices(call: Call, shape: Sequence[int]) -> tuple[list[range], list[int]]:
    """Return the range of each axis, and the axes to drop, of ``slice_by_index``."""
    rank = len(shape)
    begins, ends = call.ints("begin"), call.ints("end")
    strides = call.ints("stride") if call.has("stride") else (1,) * rank
    open_begin, open_end = (_masks(call, f"{name}_mask", rank) for name in ("begin", "end"))
    squeezed = _masks(call, "squeeze_mask", rank)
    ranges = []
    for axis, size in enumerate(shape):
        begin = None if open_begin[axis] else begins[axis]
        if squeezed[axis]:
            first = (begin or 0) + size if (begin or 0) < 0 else (begin or 0)
            ranges.append(range(first, first + 1))
            continue
        end = None if open_end[axis] else ends[axis]
        ranges.append(range(size)[slice(begin, end, strides[axis])])
    return ranges, [axis for axis in range(rank) if squeezed[axis]]


def _slice_by_index(call: Call) -> Tensor:
    x = call.tensor("x")
    ranges, squeezed = _slices(call, x.shape)
    for axis, chosen in enumerate(ranges):
        if chosen != range(x.shape[axis]):
            x = _take(x, axis, chosen)
    return x.squeeze(squeezed) if squeezed else x


def _slice_update(call: Call) -> Tensor:
    x = call.tensor("x").clone()
    ranges, _ = _slices(call, x.shape)
    places = torch.meshgrid(*[torch.tensor(list(r)) for r in ranges], indexing="ij")
    x[places] = call.tensor("update").reshape([len(chosen) for chosen in ranges])
    return x


def _slice_by_size(call: Call) -> Tensor:
    x = call.tensor("x")
    for axis, (begin, size) in enumerate(zip(call.ints("begin"), call.ints("size"), strict=True)):
        start = begin + x.shape[axis] if begin < 0 else begin
        x = x.narrow(axis, start, x.shape[axis] - start if size == -1 else size)
    return x


def _concat(call: Call) -> Tensor:
    values, axis = call.tensors("values"), call.integer("axis")
    if any(not value.dim() for value in values):
        return torch.stack(values)
    if call.flag("interleave"):
        return torch.stack(values, axis % values[0].dim() + 1).flatten(
            axis % values[0].dim(), axis % values[0].dim() + 1
        )
    return torch.cat(values, axis)


def _split(call: Call) -> list[Tensor]:
    x, axis = call.tensor("x"), call.integer("axis")
    if call.has("split_sizes"):
        return list(torch.split(x, list(call.ints("split_sizes")), axis))
    return list(torch.split(x, x.shape[axis] // call.integer("num_splits"), axis))


def _mirrored(size: int, before: int, after: int, mode: str) -> Tensor:
    """Return the indices that pad an axis by reflection or repetition of its edge."""
    places = torch.arange(-before, size + after)
    if mode == "replicate":
        return places.clamp(0, size - 1)
    period = max(2 * (size - 1), 1)
    folded = places.remainder(period)
    return torch.minimum(folded, period - folded) if size > 1 else torch.zeros_like(places)


def _pad(call: Call) -> Tensor:
    x, pad, mode = call.tensor("x"), call.ints("pad"), call.text("mode", "constant").lower()
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        flat = [number for pair in reversed(pairs) for number in pair]
        return F.pad(x, flat, value=call.number("constant_val"))
    if mode not in ("reflect", "replicate"):
        raise call.refuse(f"mode {mode!r}")
    for axis, (before, after) in enumerate(pairs, x.dim() - len(pairs)):
        if before or after:
            x = x.index_select(axis, _mirrored(x.shape[axis], before, after, mode))
    return x


def _crop(call: Call) -> Tensor:
    x = call.tensor("x")
    (top, bottom), (left, right) = call.ints("crop_height"), call.ints("crop_width")
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def _reverse(call: Call) -> Tensor:
    x = call.tensor("x")
    return x.flip(call.ints("axes") if call.has("axes") else tuple(range(x.dim())))


def _reverse_sequence(call: Call) -> Tensor:
    x, sequence = call.tensor("x"), call.integer("seq_axis")
    batch = call.integer("batch_axis")
    places = torch.arange(x.shape[sequence])
    lengths = call.tensor("lengths").reshape(-1, 1)
    order = torch.where(places < lengths, lengths - 1 - places, places)
    shape = [1] * x.dim()
    shape[batch], shape[sequence] = x.shape[batch], x.shape[sequence]
    order = order if batch % x.dim() < sequence % x.dim() else order.T
    return x.gather(sequence % x.dim(), order.long().reshape(shape).expand(x.shape))


def _pixel_unshuffle(call: Call) -> Tensor:
    return F.pixel_unshuffle(call.tensor("x"), call.integer("downscale_factor"))


def _depth_to_space(call: Call) -> Tensor:
    """Spread channels out; unlike ``pixel_shuffle`` the block comes first in the channels."""
    x, block = call.tensor("x"), call.integer("block_size")
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(call: Call) -> Tensor:
    x, block = call.tensor("x"), call.integer("block_size")
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, h // block, w // block)


def _space_to_batch(call: Call) -> Tensor:
    top, bottom, left, right = call.ints("paddings")
    x = F.pad(call.tensor("x"), (left, right, top, bottom))
    (rows, columns), (n, c, h, w) = call.ints("block_shape"), x.shape
    parts = x.reshape(n, c, h // rows, rows, w // columns, columns)
    return parts.permute(3, 5, 0, 1, 2, 4).reshape(-1, c, h // rows, w // columns)


def _batch_to_space(call: Call) -> Tensor:
    x, (rows, columns) = call.tensor("x"), call.ints("block_shape")
    top, bottom, left, right = call.ints("crops")
    (n, c, h, w), blocks = x.shape, rows * columns
    parts = x.reshape(rows, columns, n // blocks, c, h, w)
    whole = parts.permute(2, 3, 4, 0, 5, 1).reshape(n // blocks, c, h * rows, w * columns)
    return whole[..., top : h * rows - bottom, left : w * columns - right]


def _sliding_windows(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis") % call.tensor("x").dim()
    windows = x.unfold(axis, call.integer("size"), call.integer("stride", 1))
    return windows.movedim(-1, axis + 1)


def _flatten2d(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


OPS: dict[str, Kernel] = {
    "batch_to_space": _batch_to_space,
    "concat": _concat,
    "crop": _crop,
    "depth_to_space": _depth_to_space,
    "expand_dims": _expand_dims,
    "flatten2d": _flatten2d,
    "identity": lambda call: call.tensor("x"),
    "pad": _pad,
    "pixel_shuffle": lambda call: F.pixel_shuffle(call.tensor("x"), call.integer("upscale_factor")),
    "pixel_unshuffle": _pixel_unshuffle,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "sliding_windows": _sliding_windows,
    "space_to_batch": _space_to_batch,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda call: torch.stack(call.tensors("values"), call.integer("axis")),
    "tile": lambda call: call.tensor("x").tile(call.ints("reps")),
    "transpose": lambda call: call.tensor("x").permute(call.ints("perm")),
}
