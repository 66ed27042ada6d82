"""What is computed in float32 although a network is trained in mixed precision."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["keep_float32"]


class _Float32Conv2d(nn.Conv2d):
    """A convolution that autocast leaves alone."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return super().forward(images.float())


def keep_float32(scorer: nn.Module, device: torch.device) -> Callable[[], None]:
    """Compute in float32, under autocast, what loses or takes longer in less.

    - The score's own layers: bfloat16 knows 256 scores between 0.5 and 1.
    - On CPUs depthwise convolutions: their way back takes up to 2.5 times as long in bfloat16.

    Args:
        scorer: The network; its layers are changed in place, its weights are not.
        device: Where it is trained.

    Returns:
        What undoes it.
    """
    handles = [
        layer.register_forward_hook(_compute_again)
        for name, layer in scorer.named_modules()
        if isinstance(layer, nn.Linear) and (name.startswith("head") or layer.out_features == 1)
    ]
    # Subclasses have a forward pass of their own.
    convolutions = [layer for layer in scorer.modules() if type(layer) is nn.Conv2d]
    depthwise = [
        layer
        for layer in convolutions
        if device.type == "cpu" and layer.groups == layer.in_channels > 1
    ]
    for layer in depthwise:
        layer.__class__ = _Float32Conv2d

    def undo() -> None:
        for handle in handles:
            handle.remove()
        for layer in depthwise:
            layer.__class__ = nn.Conv2d

    return undo


def _compute_again(layer: nn.Module, inputs: tuple[Tensor, ...], _found: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    with torch.autocast(inputs[0].device.type, enabled=False):
        return functional.linear(inputs[0].float(), layer.weight, layer.bias)
