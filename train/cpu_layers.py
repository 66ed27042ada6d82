"""Layers with a faster backward pass on CPUs than torch's, for the time of a training run.

oneDNN computes the weight gradient of a depthwise convolution quickly where its kernel is at most
three columns wide, and as that of a dense convolution of 16×16 channels where it is wider. So the
gradient is computed a strip of three columns at a time: the same sums, in a half to a quarter of
the time.

EdgeNeXt's blocks have a separate module, `edgefiqa.train.edgenext_layers`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from edgefiqa.train.edgenext_layers import quick_kind

__all__ = ["fast_layers"]

# The widest kernel of oneDNN's depthwise weight gradient.
_STRIP = 3


@contextmanager
def fast_layers(scorer: nn.Module) -> Iterator[None]:
    """Give a network's layers their faster backward pass while the block runs.

    Under autocast depthwise convolutions stay in float32: in bfloat16 their backward pass takes up
    to 2.5 times as long.

    Args:
        scorer: The network, on a CPU. Its layers change their class in place, its weights stay as
            they are; all is put back when the block ends, also by an exception.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    try:
        for layer in scorer.modules():
            kind = _DepthwiseConv2d if _is_depthwise(layer) else quick_kind(layer)
            if kind is not None:
                changed.append((layer, type(layer)))
                # The class, not the module: optimisers, averages and hooks keep their references.
                layer.__class__ = kind
        yield
    finally:
        for layer, kind in changed:
            layer.__class__ = kind


def _is_depthwise(layer: nn.Module) -> bool:
    # Subclasses may have another forward pass.
    return (
        type(layer) is nn.Conv2d
        and layer.groups == layer.in_channels == layer.out_channels > 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class _DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, in float32 also under autocast."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            if self.kernel_size[1] <= _STRIP:
                return super().forward(images)
            result: Tensor = _Depthwise.apply(
                images, self.weight, self.bias, self.stride, self.padding
            )
            return result


def _convolution_gradients(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    channels = len(weight)
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient,
        images,
        weight,
        [channels],
        stride,
        padding,
        [1, 1],
        False,
        [0, 0],
        channels,
        wanted,
    )
    return found


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution; the weight's gradient is computed in strips of columns."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(images, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        (rows, columns), width = weight.shape[2:], gradient.shape[3]
        wanted = ctx.needs_input_grad[0], False, False
        image_gradient = _convolution_gradients(gradient, images, weight, stride, padding, wanted)[
            0
        ]
        # Strips gain nothing where the kernel is higher than the map.
        strip = _STRIP if rows <= min(gradient.shape[2:]) else columns
        padded = functional.pad(images, (padding[1], padding[1], 0, 0))
        reach = (width - 1) * stride[1]
        of_weight = torch.empty_like(weight)
        for first in range(0, columns, strip):
            end = min(first + strip, columns)
            kernel_strip = weight[..., first:end]
            place, part = (padding[0], 0), padded[..., first : end + reach]
            wanted = False, True, False
            found = _convolution_gradients(gradient, part, kernel_strip, stride, place, wanted)[1]
            assert found is not None
            of_weight[..., first:end] = found
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return image_gradient, of_weight, of_bias, None, None
