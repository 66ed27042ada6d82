"""Mixed precision: where it pays on CPUs, and what is computed in float32 all the same."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["float32_head", "has_bfloat16"]


def has_bfloat16() -> bool:
    """Tell whether the processor has instructions for products in bfloat16."""
    found = torch.cpu.get_capabilities().items()
    return any(has for name, has in found if "bf16" in name)


@contextmanager
def float32_head(scorer: nn.Module) -> Iterator[None]:
    """Compute the layers that give the score in float32 under autocast, while the block runs.

    bfloat16 has only 256 values between 0.5 and 1: too few for a score.

    Args:
        scorer: The network. Its head gets hooks, which are removed when the block ends, also by an
            exception; its weights stay as they are.
    """
    handles = [
        layer.register_forward_hook(_compute_again)
        for name, layer in scorer.named_modules()
        if isinstance(layer, nn.Linear) and (name.startswith("head") or layer.out_features == 1)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _compute_again(layer: nn.Module, inputs: tuple[Tensor, ...], _found: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    with torch.autocast(inputs[0].device.type, enabled=False):
        return functional.linear(inputs[0].float(), layer.weight, layer.bias)
