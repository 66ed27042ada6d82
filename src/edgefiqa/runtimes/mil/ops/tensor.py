"""Making, sorting and accumulating tensors."""

import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]


def _argsort(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis", -1)
    return x.argsort(dim=axis, descending=not call.flag("ascending"), stable=True)


def _topk(call: Call) -> list[Tensor]:
    x, axis = call.tensor("x"), call.integer("axis", -1)
    order = x.argsort(dim=axis, descending=not call.flag("ascending"), stable=True)
    count = call.integer("k", 1)
    order = order.narrow(axis, 0, x.shape[axis] if count == -1 else count)
    values = x.take_along_dim(order, axis)
    return [values, order] if len(call.op.outputs) > 1 else [values]


def _cumsum(call: Call) -> Tensor:
    x, axis = call.tensor("x"), call.integer("axis")
    x = x.flip(axis) if call.flag("reverse") else x
    total = x.cumsum(axis)
    if call.flag("exclusive"):
        total = total.roll(1, axis)
        total.select(axis, 0).zero_()
    return total.flip(axis) if call.flag("reverse") else total


def _band_part(call: Call) -> Tensor:
    x, lower, upper = call.tensor("x"), call.integer("lower", -1), call.integer("upper", -1)
    x = x if upper < 0 else x.tril(upper)
    return x if lower < 0 else x.triu(-lower)


def _fill(call: Call) -> Tensor:
    return call.tensor("value").expand(call.ints("shape")).clone()


def _fill_like(call: Call) -> Tensor:
    return call.tensor("value").expand(call.tensor("ref_tensor").shape).clone()


def _one_hot(call: Call) -> Tensor:
    indices, size = call.tensor("indices"), call.integer("one_hot_vector_size")
    hits = indices.unsqueeze(-1) == torch.arange(size)
    axis = call.integer("axis", -1)
    return torch.where(hits, call.tensor("on_value"), call.tensor("off_value")).movedim(-1, axis)


def _range_1d(call: Call) -> Tensor:
    start, end, step = (call.tensor(name).reshape(()) for name in ("start", "end", "step"))
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


OPS: dict[str, Kernel] = {
    "argsort": _argsort,
    "band_part": _band_part,
    "cumsum": _cumsum,
    "fill": _fill,
    "fill_like": _fill_like,
    "non_zero": lambda call: call.tensor("x").nonzero(),
    "one_hot": _one_hot,
    "range_1d": _range_1d,
    "shape": lambda call: torch.tensor(call.tensor("x").shape, dtype=torch.int32),
    "topk": _topk,
}
