"""Gathering, which only moves data.

Indices count from the end where they are negative, but where the op validates them.
"""

import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS", "wrapped"]


def wrapped(call: Call, indices: Tensor, size: int) -> Tensor:
    """Return indices as int64 with the negative ones counted from the end.

    Raises:
        IndexError: If the op validates its indices and one is not among 0..size-1.
    """
    indices = indices.long()
    if call.flag("validate_indices") and bool(((indices < 0) | (indices >= size)).any()):
        msg = f"an index is not among 0..{size - 1}"
        raise IndexError(msg)
    return torch.where(indices < 0, indices + size, indices)


def _gather(call: Call) -> Tensor:
    x, indices = call.tensor("x"), call.tensor("indices")
    axis, batch = call.integer("axis") % max(x.dim(), 1), call.integer("batch_dims")
    places = wrapped(call, indices, x.shape[axis])
    if batch == 0:
        shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
        return x.index_select(axis, places.reshape(-1)).reshape(shape)
    lead = x.shape[:batch]
    rows = x.reshape(-1, *x.shape[batch:])
    chosen = places.reshape(-1, *places.shape[batch:])
    parts = [
        row.index_select(axis - batch, choice.reshape(-1)).reshape(
            *row.shape[: axis - batch], *choice.shape, *row.shape[axis - batch + 1 :]
        )
        for row, choice in zip(rows, chosen, strict=True)
    ]
    return torch.stack(parts).reshape(*lead, *parts[0].shape)


def _gather_along_axis(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis")
    return torch.take_along_dim(x, wrapped(call, call.tensor("indices"), x.shape[axis]), axis)


def _gather_nd(call: Call) -> Tensor:
    x, indices, batch = call.tensor("x"), call.tensor("indices"), call.integer("batch_dims")
    lead = x.shape[:batch]
    rows = x.reshape(-1, *x.shape[batch:])
    chosen = indices.reshape(-1, *indices.shape[batch:])
    parts = []
    for row, choice in zip(rows, chosen, strict=True):
        places = [
            wrapped(call, part, row.shape[axis]) for axis, part in enumerate(choice.unbind(-1))
        ]
        parts.append(row[tuple(places)])
    return torch.stack(parts).reshape(*lead, *parts[0].shape)


OPS: dict[str, Kernel] = {
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
}
