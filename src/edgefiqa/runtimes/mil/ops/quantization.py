"""Quantisation while the program runs, and of weights at load time."""

import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def _along_axis(call: Call, name: str, rank: int) -> Tensor:
    """Shape a scalar or vector parameter for ``axis`` of a tensor of that rank."""
    value = call.tensor(name)
    if value.dim() != 1:
        return value
    axis = call.integer("axis") % rank
    return value.reshape([-1 if dim == axis else 1 for dim in range(rank)])


def _quantize(call: Call) -> Tensor:
    x = call.tensor("input")
    whole = torch.round(x / _along_axis(call, "scale", x.dim()))  # half to even
    if call.has("zero_point"):
        whole = whole + _along_axis(call, "zero_point", x.dim())
    return whole.clamp(*_RANGES[call.text("output_dtype")])


def _affine(call: Call, data: Tensor) -> Tensor:
    if call.has("zero_point"):
        data = data - _along_axis(call, "zero_point", data.dim())
    return data * _along_axis(call, "scale", data.dim())


def _per_block(parameter: Tensor, shape: torch.Size) -> Tensor:
    """Repeat a block-wise parameter to the data's shape."""
    for axis, (have, want) in enumerate(zip(parameter.shape, shape, strict=True)):
        if have not in (1, want):
            parameter = parameter.repeat_interleave(want // have, axis)
    return parameter


def _shift_scale(call: Call, data: Tensor) -> Tensor:
    offset = call.optional("offset")
    if offset is not None:
        data = data - _per_block(offset, data.shape)
    return data * _per_block(call.tensor("scale"), data.shape)


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Read ``count`` numbers of ``bits`` bits, least significant bit first."""
    single = (packed.reshape(-1, 1) >> torch.arange(8)) & 1
    grouped = single.reshape(-1)[: count * bits].reshape(count, bits)
    return (grouped << torch.arange(bits)).sum(1)


def _look_up(indices: Tensor, table: Tensor, vector_axis: int) -> Tensor:
    """Replace indices by the vectors of the table of their block (iOS 18's form).

    Args:
        indices: Any shape.
        table: That rank plus two: one table per block, ``[…, entries, vector]``.
        vector_axis: Where vectors longer than one are laid out.
    """
    entries, width = table.shape[-2:]
    tables = _per_block(table, torch.Size((*indices.shape, entries, width)))
    tables = tables.expand(*indices.shape, entries, width)
    chosen = indices.long()[..., None, None].expand(*indices.shape, 1, width)
    found = tables.gather(-2, chosen).squeeze(-2)
    axis = vector_axis % indices.dim()
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _lut_to_dense(call: Call) -> Tensor:
    indices, table = call.tensor("indices"), call.tensor("lut")
    if not call.has("shape"):  # iOS 18
        return _look_up(indices, table, call.integer("vector_axis", -1))
    shape = call.ints("shape")
    bits = (table.numel() - 1).bit_length()
    return table[_unpack(indices, bits, int(torch.Size(shape).numel()))].reshape(shape)


def _scatter(mask: Tensor, nonzero: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=nonzero.dtype)
    dense[mask != 0] = nonzero
    return dense


def _sparse_to_dense(call: Call) -> Tensor:
    mask, nonzero = call.tensor("mask"), call.tensor("nonzero_data")
    if call.has("shape"):  # iOS 16: one bit an element
        shape = call.ints("shape")
        mask = _unpack(mask, 1, int(torch.Size(shape).numel())).reshape(shape)
    return _scatter(mask, nonzero)


def _lut_to_sparse(call: Call) -> tuple[Tensor, Tensor]:
    mask, table = call.tensor("indices_mask"), call.tensor("lut")
    axis = call.integer("vector_axis", -1)
    dense = _look_up(_scatter(mask, call.tensor("indices_nonzero_data")), table, axis)
    mask = mask.repeat_interleave(table.shape[-1], axis)
    return mask, dense[mask != 0]


def _sparse_shift_scale(call: Call) -> tuple[Tensor, Tensor]:
    mask = call.tensor("data_mask")
    dense = _shift_scale(call, _scatter(mask, call.tensor("nonzero_data")))
    return mask, dense[mask != 0]


OPS: dict[str, Kernel] = {
    "constexpr_affine_dequantize": lambda call: _affine(call, call.tensor("quantized_data")),
    "constexpr_blockwise_shift_scale": lambda call: _shift_scale(call, call.tensor("data")),
    "constexpr_cast": lambda call: call.tensor("source_val"),
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "dequantize": lambda call: _affine(call, call.tensor("input")),
    "quantize": _quantize,
}
