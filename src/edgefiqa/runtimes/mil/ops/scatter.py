"""Scattering, with its seven ways to combine an update with what was there."""

import math

import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel
from edgefiqa.runtimes.mil.ops.gather import wrapped

__all__ = ["OPS"]

_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}


def _combine(call: Call, data: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    """Scatter into a vector."""
    mode = call.text("mode", "add").lower()
    if mode == "update":
        return data.scatter(0, places, updates)
    if mode in ("add", "sub"):
        return data.scatter_add(0, places, updates if mode == "add" else -updates)
    if mode == "div":
        divisors = torch.ones_like(data).scatter_reduce(0, places, updates, "prod")
        return torch.div(data, divisors).to(data.dtype)
    if mode not in _REDUCTIONS:
        raise call.refuse(f"mode {mode!r}")
    return data.scatter_reduce(0, places, updates, _REDUCTIONS[mode])


def _into(call: Call, positions: Tensor) -> Tensor:
    """Scatter updates to flat positions of the data."""
    data, updates = call.tensor("data"), call.tensor("updates").to(call.tensor("data").dtype)
    flat = _combine(call, data.reshape(-1), positions.reshape(-1), updates.reshape(-1))
    return flat.reshape(data.shape)


def _positions(shape: torch.Size) -> Tensor:
    return torch.arange(math.prod(shape)).reshape(shape)


def _scatter(call: Call) -> Tensor:
    data, indices = call.tensor("data"), call.tensor("indices")
    axis = call.integer("axis") % data.dim()
    places = wrapped(call, indices, data.shape[axis])
    return _into(call, _positions(data.shape).index_select(axis, places.reshape(-1)))


def _scatter_along_axis(call: Call) -> Tensor:
    data, indices = call.tensor("data"), call.tensor("indices")
    axis = call.integer("axis") % data.dim()
    places = wrapped(call, indices, data.shape[axis])
    shape = [places.shape[a] if a == axis else size for a, size in enumerate(data.shape)]
    return _into(call, torch.take_along_dim(_positions(data.shape), places.expand(shape), axis))


def _scatter_nd(call: Call) -> Tensor:
    data, indices = call.tensor("data"), call.tensor("indices")
    places = [wrapped(call, part, data.shape[axis]) for axis, part in enumerate(indices.unbind(-1))]
    return _into(call, _positions(data.shape)[tuple(places)])


OPS: dict[str, Kernel] = {
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
