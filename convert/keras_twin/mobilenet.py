"""The twins of timm's MobileNetV3-Small and MobileNetV2, BatchNorm folded into convolutions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from timm.models import EfficientNet, MobileNetV3
from timm.models._efficientnet_blocks import (
    ConvBnAct,
    DepthwiseSeparableConv,
    InvertedResidual,
    SqueezeExcite,
)
from torch import nn

from edgefiqa.convert.keras_twin.graph import (
    Graph,
    KerasTensor,
    Weights,
    fold_batch_norm,
    weights_of,
)
from edgefiqa.errors import UsageError

__all__ = ["add_mobilenet"]


def add_mobilenet(
    graph: Graph,
    x: KerasTensor,
    backbone: MobileNetV3 | EfficientNet,
    name: str,
    *,
    input_scale: NDArray[np.float64],
) -> KerasTensor:
    """Add the network with its stock head: float ``[1, S, S, 3]`` → ``[1, 1, 1, 1]``.

    Args:
        graph: The graph to add to.
        x: Pixels less their mean.
        backbone: The timm network.
        name: Its torch name.
        input_scale: What the stem still has to multiply each channel by.
    """
    stem = fold_batch_norm(backbone.conv_stem, backbone.bn1).scaled(input_scale)
    x = graph.conv(x, f"{name}.conv_stem", backbone.conv_stem, stem, backbone.bn1.act)
    x = graph.watch(f"{name}.bn1", x)
    for stage, blocks in enumerate(backbone.blocks):
        for index, block in enumerate(blocks):
            at = f"{name}.blocks.{stage}.{index}"
            x = graph.watch(at, _block(graph, x, block, at))
    if isinstance(backbone, MobileNetV3):
        x = graph.mean_pool(x)
        head = weights_of(backbone.conv_head)
        x = graph.pointwise(x, f"{name}.conv_head", head, backbone.act2)
        x = graph.watch(f"{name}.act2", x)
    else:
        x = _conv_bn(graph, x, backbone, "conv_head", "bn2", name)
        x = graph.mean_pool(x)
    x = graph.pointwise(x, f"{name}.classifier", weights_of(backbone.classifier))
    return graph.watch(f"{name}.classifier", x, channels_first=False)


def _conv_bn(
    graph: Graph,
    x: KerasTensor,
    block: Any,
    conv: str,
    norm: str,
    name: str,
    *,
    input_scale: float = 1.0,
) -> KerasTensor:
    """Add a convolution, the BatchNorm behind it and the activation inside that."""
    source, bn = getattr(block, conv), getattr(block, norm)
    weights = fold_batch_norm(source, bn)
    if input_scale != 1.0:
        weights = weights.scaled(input_scale)
    return graph.watch(f"{name}.{norm}", graph.conv(x, f"{name}.{conv}", source, weights, bn.act))


def _block(graph: Graph, x: KerasTensor, block: nn.Module, name: str) -> KerasTensor:
    match block:
        case ConvBnAct():
            out = _conv_bn(graph, x, block, "conv", "bn1", name)
        case DepthwiseSeparableConv():
            out = _conv_bn(graph, x, block, "conv_dw", "bn1", name)
            out, scale = _squeeze_excite(graph, out, block.se, f"{name}.se")
            out = _conv_bn(graph, out, block, "conv_pw", "bn2", name, input_scale=scale)
        case InvertedResidual():
            out = _conv_bn(graph, x, block, "conv_pw", "bn1", name)
            out = _conv_bn(graph, out, block, "conv_dw", "bn2", name)
            out, scale = _squeeze_excite(graph, out, block.se, f"{name}.se")
            out = _conv_bn(graph, out, block, "conv_pwl", "bn3", name, input_scale=scale)
        case _:
            raise UsageError(
                "the Keras twin does not know this block",
                value=f"{type(block).__name__} in {name}",
                allowed="ConvBnAct, DepthwiseSeparableConv, InvertedResidual",
                next_step="--to tflite converts every model",
            )
    return out + x if block.has_skip else out


def _squeeze_excite(
    graph: Graph, x: KerasTensor, se: nn.Module, name: str
) -> tuple[KerasTensor, float]:
    """Add squeeze-excite, without the last step of its gate.

    The gate is ``relu6(e + 3)/6``: the 3 goes into the bias before it, the division into the
    convolution behind, so that two operations less are left.

    Returns:
        The tensor, and the factor that its reader must apply.
    """
    if isinstance(se, nn.Identity):
        return x, 1.0
    if not (isinstance(se, SqueezeExcite) and isinstance(se.gate, nn.Hardsigmoid)):
        raise UsageError(
            "the Keras twin knows squeeze-excite with a hard sigmoid only",
            value=name,
            next_step="--to tflite converts every model",
        )
    gate = graph.pointwise(
        graph.mean_pool(x), f"{name}.conv_reduce", weights_of(se.conv_reduce), se.act1
    )
    expand = weights_of(se.conv_expand)
    expand = Weights(weight=expand.weight, bias=expand.bias + 3.0)
    gate = graph.pointwise(gate, f"{name}.conv_expand", expand, nn.ReLU6())
    return x * gate, 1.0 / 6.0
