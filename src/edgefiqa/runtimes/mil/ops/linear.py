"""Matrix products: in float32, rounded once."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from edgefiqa.runtimes.mil.call import Call, Kernel

__all__ = ["OPS"]


def _linear(call: Call) -> Tensor:
    x, weight, bias = call.tensor("x"), call.tensor("weight"), call.optional("bias")
    if x.dtype == torch.int32:
        product = torch.matmul(x, weight.T)
        return product if bias is None else product + bias
    # Weight and bias may be whole numbers beside a float input.
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def _matmul(call: Call) -> Tensor:
    x, y = call.tensor("x"), call.tensor("y")
    if call.flag("transpose_x"):
        x = x.transpose(-1, -2)
    if call.flag("transpose_y"):
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


def _einsum(call: Call) -> Tensor:
    found: Tensor = torch.einsum(call.text("equation"), call.tensors("values"))
    return found


def _attention(call: Call) -> Tensor:
    query, key, value = (call.tensor(name) for name in ("query", "key", "value"))
    weights = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
    mask = call.optional("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        weights = weights.masked_fill(~mask, -math.inf)
    elif mask is not None:
        weights = weights + mask
    return torch.matmul(torch.softmax(weights, -1), value)


OPS: dict[str, Kernel] = {
    "einsum": _einsum,
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
}
