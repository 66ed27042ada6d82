"""Activations."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]


def _clamped_relu(call: Call) -> Tensor:
    x, beta = call.tensor("x"), call.tensor("beta")
    return torch.minimum(torch.where(x >= 0, x, x * call.tensor("alpha")), beta)


def _gelu(call: Call) -> Tensor:
    x, mode = call.tensor("x"), call.text("mode", "EXACT")
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    return x * torch.sigmoid(1.702 * x)


def _along_channels(call: Call, name: str) -> Tensor:
    """Shape a vector of per-channel parameters for axis 1 of ``x``."""
    return call.tensor(name).reshape(-1, *[1] * (call.tensor("x").dim() - 2))


def _prelu(call: Call) -> Tensor:
    x = call.tensor("x")
    return torch.where(x >= 0, x, x * _along_channels(call, "alpha"))


def _elu(call: Call) -> Tensor:
    x = call.tensor("x")
    return torch.where(x >= 0, x, call.tensor("alpha") * torch.expm1(x))


def _leaky_relu(call: Call) -> Tensor:
    x = call.tensor("x")
    return torch.where(x >= 0, x, call.tensor("alpha") * x)


def _softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


def _softplus_parametric(call: Call) -> Tensor:
    inner = call.tensor("x") * _along_channels(call, "beta")
    return _along_channels(call, "alpha") * _softplus(inner)


def _sigmoid_hard(call: Call) -> Tensor:
    inner = torch.mul(call.tensor("alpha"), call.tensor("x"))
    return inner.add_(call.tensor("beta")).clamp_(0, 1)


def _softsign(call: Call) -> Tensor:
    x = call.tensor("x")
    return x / (1 + x.abs())


def _thresholded_relu(call: Call) -> Tensor:
    # torch keeps what is greater than its threshold, MIL what is not less: one number lower.
    below = float(np.nextafter(np.float32(call.number("alpha")), np.float32(-np.inf)))
    return F.threshold(call.tensor("x"), below, 0.0)


def _linear_activation(call: Call) -> Tensor:
    return call.tensor("alpha") * call.tensor("x") + call.tensor("beta")


def _scaled_tanh(call: Call) -> Tensor:
    return call.tensor("alpha") * torch.tanh(call.tensor("x") * call.tensor("beta"))


OPS: dict[str, Kernel] = {
    "clamped_relu": _clamped_relu,
    "elu": _elu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "linear_activation": _linear_activation,
    "prelu": _prelu,
    "relu": lambda call: torch.relu(call.tensor("x")),
    "relu6": lambda call: call.tensor("x").clamp(0, 6),
    "scaled_tanh": _scaled_tanh,
    "sigmoid": lambda call: torch.sigmoid(call.tensor("x")),
    "sigmoid_hard": _sigmoid_hard,
    "silu": lambda call: F.silu(call.tensor("x")),
    "softmax": lambda call: torch.softmax(call.tensor("x"), call.integer("axis", -1)),
    "softplus": lambda call: _softplus(call.tensor("x")),
    "softplus_parametric": _softplus_parametric,
    "softsign": _softsign,
    "thresholded_relu": _thresholded_relu,
}
