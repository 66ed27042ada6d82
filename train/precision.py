"""Mixed precision: where it pays on CPUs, and what is computed in float32 all the same."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["has_bfloat16", "keep_float32"]


def has_bfloat16() -> bool:
    """Tell whether the processor has instructions for products in bfloat16."""
    found = torch.cpu.get_capabilities().items()
    return any(has for name, has in found if "bf16" in name)


def keep_float32(scorer: nn.Module) -> Callable[[], None]:
    """Compute the score's own layers in float32 under autocast.

    bfloat16 knows 256 scores between 0.5 and 1.

    Args:
        scorer: The network; its layers are changed in place, its weights are not.

    Returns:
        What undoes it.
    """
    handles = [
        layer.register_forward_hook(_compute_again)
        for name, layer in scorer.named_modules()
        if isinstance(layer, nn.Linear) and (name.startswith("head") or layer.out_features == 1)
    ]

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


def _compute_again(layer: nn.Module, inputs: tuple[Tensor, ...], _found: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    with torch.autocast(inputs[0].device.type, enabled=False):
        return functional.linear(inputs[0].float(), layer.weight, layer.bias)
