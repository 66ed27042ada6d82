"""Normalisations; statistics in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]


def _batch_norm(call: Call) -> Tensor:
    return F.batch_norm(
        call.tensor("x"),
        call.tensor("mean"),
        call.tensor("variance"),
        call.optional("gamma"),
        call.optional("beta"),
        eps=call.number("epsilon", 1e-5),
    )


def _instance_norm(call: Call) -> Tensor:
    x = call.tensor("x")
    axes = tuple(range(2, x.dim()))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    normal = (x - mean) / torch.sqrt(variance + call.number("epsilon", 1e-5))
    shape = (-1, *[1] * len(axes))
    gamma, beta = call.optional("gamma"), call.optional("beta")
    if gamma is not None:
        normal = normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def _l2_norm(call: Call) -> Tensor:
    x = call.tensor("x")
    squares = x.square().sum((-3, -2, -1), keepdim=True)
    return x / torch.sqrt(squares + call.number("epsilon", 1e-6))


def _layer_norm(call: Call) -> Tensor:
    x = call.tensor("x")
    given = call.ints("axes") if call.has("axes") else range(x.dim())
    axes = sorted(axis % x.dim() for axis in given)
    gamma, beta = call.optional("gamma"), call.optional("beta")
    epsilon = call.number("epsilon", 1e-5)
    if axes == list(range(x.dim() - len(axes), x.dim())):
        return F.layer_norm(x, x.shape[axes[0] :], gamma, beta, epsilon)
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    normal = (x - mean) / torch.sqrt(variance + epsilon)
    shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    if gamma is not None:
        normal = normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def _local_response_norm(call: Call) -> Tensor:
    return F.local_response_norm(
        call.tensor("x"),
        call.integer("size"),
        alpha=call.number("alpha", 1e-4),
        beta=call.number("beta", 0.75),
        k=call.number("k", 1.0),
    )


OPS: dict[str, Kernel] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "layer_norm": _layer_norm,
    "local_response_norm": _local_response_norm,
}
