"""The twin of torchvision's ShuffleNetV2, BatchNorm folded into convolutions."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torchvision.models.shufflenetv2 import InvertedResidual, ShuffleNetV2

from edgefiqa.convert.keras_twin.graph import Graph, KerasTensor, fold_batch_norm

__all__ = ["add_shufflenet"]


def add_shufflenet(
    graph: Graph,
    x: KerasTensor,
    backbone: ShuffleNetV2,
    name: str,
    *,
    input_scale: NDArray[np.float64],
) -> KerasTensor:
    """Add the network without its classifier: float ``[1, S, S, 3]`` → ``[1, 1, 1, C]``.

    Args:
        graph: The graph to add to.
        x: Pixels less their mean.
        backbone: The torchvision network.
        name: Its torch name.
        input_scale: What the stem still has to multiply each channel by.
    """
    x = _sequence(graph, x, backbone.conv1, f"{name}.conv1", input_scale=input_scale)
    x = graph.watch(f"{name}.maxpool", graph.max_pool(x, f"{name}.maxpool", backbone.maxpool))
    for stage in ("stage2", "stage3", "stage4"):
        for index, unit in enumerate(getattr(backbone, stage)):
            at = f"{name}.{stage}.{index}"
            x = graph.watch(at, _unit(graph, x, unit, at))
    return graph.mean_pool(_sequence(graph, x, backbone.conv5, f"{name}.conv5"))


def _layers(layers: nn.Sequential) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d, nn.Module]]:
    """Yield each convolution with its name, the BatchNorm behind it and its activation."""
    modules = list(layers)
    for index, conv in enumerate(modules):
        if isinstance(conv, nn.Conv2d):
            norm, after = modules[index + 1], modules[index + 2 : index + 3]
            assert isinstance(norm, nn.BatchNorm2d)
            relu = after[0] if after and isinstance(after[0], nn.ReLU) else nn.Identity()
            yield str(index), conv, norm, relu


def _sequence(
    graph: Graph,
    x: KerasTensor,
    layers: nn.Sequential,
    name: str,
    *,
    input_scale: NDArray[np.float64] | None = None,
) -> KerasTensor:
    for index, conv, norm, activation in _layers(layers):
        weights = fold_batch_norm(conv, norm)
        if input_scale is not None:
            weights, input_scale = weights.scaled(input_scale), None
        x = graph.conv(x, f"{name}.{index}", conv, weights, activation)
    return graph.watch(name, x)


def _unit(graph: Graph, x: KerasTensor, unit: InvertedResidual, name: str) -> KerasTensor:
    if unit.stride == 1:
        half = x.shape[-1] // 2
        left, right = x[..., :half], x[..., half:]
    else:
        left, right = _sequence(graph, x, unit.branch1, f"{name}.branch1"), x
    right = _sequence(graph, right, unit.branch2, f"{name}.branch2")
    return _shuffled(graph, left, right)


def _shuffled(graph: Graph, left: KerasTensor, right: KerasTensor) -> KerasTensor:
    """Interleave the channels of two maps."""
    ops = graph.keras.ops
    _, height, width, channels = left.shape
    both = ops.reshape(ops.concatenate([left, right], -1), (1, height * width, 2, channels))
    return ops.reshape(ops.transpose(both, (0, 1, 3, 2)), (1, height, width, 2 * channels))
