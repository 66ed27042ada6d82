"""Elementwise arithmetic, comparison and casts."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]

_INTEGER_RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}


def _unary(function: Callable[[Tensor], Tensor]) -> Kernel:
    return lambda call: function(call.tensor("x"))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Kernel:
    return lambda call: function(call.tensor("x"), call.tensor("y"))


def _with_epsilon(function: Callable[[Tensor], Tensor]) -> Kernel:
    return lambda call: function(call.tensor("x") + call.tensor("epsilon"))


def _sqrt(x: Tensor) -> Tensor:
    """Take the root, correctly rounded: torch's, from MKL, is sometimes one unit off."""
    return torch.from_numpy(np.sqrt(np.asarray(x.numpy())).reshape(x.shape))


def _real_div(call: Call) -> Tensor:
    x, y = call.tensor("x"), call.tensor("y")
    if x.dtype == torch.int32:  # truncated, as C++ does
        return torch.div(x, y, rounding_mode="trunc")
    return x / y


def _clip(call: Call) -> Tensor:
    return torch.minimum(torch.maximum(call.tensor("x"), call.tensor("alpha")), call.tensor("beta"))


def _cast(call: Call) -> Tensor:
    x, dtype = call.tensor("x"), call.text("dtype")
    if dtype in ("fp16", "fp32"):
        return x.float()
    if dtype == "bool":
        return x != 0
    whole = torch.trunc(x) if x.is_floating_point() else x
    if dtype in _INTEGER_RANGES:
        return whole.clamp(*_INTEGER_RANGES[dtype])
    if dtype == "int32":
        return whole.to(torch.int32)
    raise call.refuse(f"to {dtype}")


def _select(call: Call) -> Tensor:
    return torch.where(call.tensor("cond").bool(), call.tensor("a"), call.tensor("b"))


OPS: dict[str, Kernel] = {
    "abs": _unary(torch.abs),
    "acos": _unary(torch.acos),
    "asin": _unary(torch.asin),
    "atan": _unary(torch.atan),
    "atanh": _unary(torch.atanh),
    "cast": _cast,
    "ceil": _unary(torch.ceil),
    "clip": _clip,
    "cos": _unary(torch.cos),
    "cosh": _unary(torch.cosh),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "floor": _unary(torch.floor),
    "inverse": _with_epsilon(torch.reciprocal),
    "log": _with_epsilon(torch.log),
    "logical_not": _unary(torch.logical_not),
    "round": _unary(torch.round),  # half to even
    "rsqrt": _with_epsilon(lambda x: 1 / _sqrt(x)),
    "sign": _unary(torch.sign),
    "sin": _unary(torch.sin),
    "sinh": _unary(torch.sinh),
    "sqrt": _unary(_sqrt),
    "square": _unary(torch.square),
    "tan": _unary(torch.tan),
    "tanh": _unary(torch.tanh),
    "threshold": lambda call: torch.maximum(call.tensor("x"), call.tensor("alpha")),
    "add": _binary(torch.add),
    "equal": _binary(torch.eq),
    "floor_div": _binary(lambda x, y: torch.div(x, y, rounding_mode="floor")),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mod": _binary(torch.remainder),
    "mul": _binary(torch.mul),
    "not_equal": _binary(torch.ne),
    "pow": _binary(torch.pow),
    "real_div": _real_div,
    "select": _select,
    "sub": _binary(torch.sub),
}
