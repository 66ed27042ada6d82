"""The student's twin: EdgeNeXt as ``edgefiqa.convert.edgenext`` rewrote it, in Keras."""

from typing import Any

import numpy as np
from timm.models.edgenext import ConvBlock, EdgeNeXt
from torch import nn

from edgefiqa.convert.edgenext import ExportAttention, ExportSplitBlock
from edgefiqa.convert.keras_twin.graph import Graph, KerasTensor, Weights, centred, weights_of

__all__ = ["add_edgenext"]

# Added to a score outside its head's block before the softmax: exp() of it is exactly 0.
OTHER_HEAD = -1e9


def add_edgenext(graph: Graph, x: KerasTensor, backbone: EdgeNeXt, name: str) -> KerasTensor:
    """Add the backbone: float ``[1, S, S, 3]`` → ``[1, S/32, S/32, C]``.

    Args:
        graph: The graph to add to.
        x: Pixels, normalised unless the stem took the normalisation.
        backbone: The network after ``rewrite_edgenext``.
        name: Its torch name.
    """
    conv, norm = backbone.stem
    stem = f"{name}.stem"
    x = graph.watch(f"{stem}.0", graph.conv(x, f"{stem}.0", conv, weights_of(conv), None))
    x = graph.layer_norm(x, f"{stem}.1", norm)
    for index, stage in enumerate(backbone.stages):
        prefix = f"{name}.stages.{index}"
        if isinstance(stage.downsample, nn.Sequential):
            x = _downsample(graph, x, stage.downsample, f"{prefix}.downsample")
        for number, block in enumerate(stage.blocks):
            add = _conv_block if isinstance(block, ConvBlock) else _split_block
            at = f"{prefix}.blocks.{number}"
            x = graph.watch(at, add(graph, x, block, at))
    return x


def _downsample(graph: Graph, x: KerasTensor, layers: nn.Sequential, name: str) -> KerasTensor:
    norm, conv = layers
    assert isinstance(conv, nn.Conv2d)
    x = graph.scale_to_unit_variance(x, f"{name}.0", norm.eps)  # type: ignore[arg-type]
    x = graph.conv(x, f"{name}.1", conv, centred(weights_of(conv)), None)
    return graph.watch(f"{name}.1", x)


def _conv_block(graph: Graph, x: KerasTensor, block: ConvBlock, name: str) -> KerasTensor:
    conv, at = block.conv_dw, f"{name}.conv_dw"
    local = graph.watch(at, graph.conv(x, at, conv, weights_of(conv), None))
    shortcut = local if block.shortcut_after_dw else x
    return shortcut + _norm_mlp(graph, local, block, name)


def _norm_mlp(graph: Graph, x: KerasTensor, block: Any, name: str) -> KerasTensor:
    """Add ``mlp(norm(x))`` of either block; torch's tensors are channels-last here too."""
    mlp, at = block.mlp, f"{name}.mlp"
    x = graph.scale_to_unit_variance(x, f"{name}.norm", block.norm.eps)
    x = graph.pointwise(x, f"{at}.fc1", centred(weights_of(mlp.fc1)))
    x = graph.watch(f"{at}.fc1", x, channels_first=False)
    x = graph.activate(x, at, mlp.act)
    x = graph.watch(f"{at}.act", x, channels_first=False)
    x = graph.pointwise(x, f"{at}.fc2", weights_of(mlp.fc2))
    return graph.watch(at, x, channels_first=False)


def _split_block(graph: Graph, x: KerasTensor, block: ExportSplitBlock, name: str) -> KerasTensor:
    mixed = _split_convs(graph, x, block, name)
    height, width, channels = x.shape[1:]
    if block.rows is not None and block.columns is not None:
        mixed = mixed + block.rows.numpy() + block.columns.numpy()
    tokens = graph.scale_to_unit_variance(mixed, f"{name}.norm_xca", block.norm_xca.eps)
    tokens = graph.keras.ops.reshape(tokens, (1, 1, height * width, channels))
    attended = _attention(graph, tokens, block.xca, f"{name}.xca")
    mixed = mixed + graph.keras.ops.reshape(attended, (1, height, width, channels))
    return x + _norm_mlp(graph, mixed, block, name)


def _split_convs(graph: Graph, x: KerasTensor, block: ExportSplitBlock, name: str) -> KerasTensor:
    """Add the cascade of depthwise convolutions over slices of the channels."""
    channels, parts = x.shape[-1], len(block.convs) + 1
    width = -(-channels // parts)  # torch's chunk: the last may be narrower
    chunks = [x[..., at : min(at + width, channels)] for at in range(0, channels, width)]
    outputs: list[KerasTensor] = []
    for index, conv in enumerate(block.convs):
        assert isinstance(conv, nn.Conv2d)
        source = outputs[-1] + chunks[index] if outputs else chunks[0]
        at = f"{name}.convs.{index}"
        outputs.append(graph.watch(at, graph.conv(source, at, conv, weights_of(conv), None)))
    return graph.keras.ops.concatenate([*outputs, chunks[-1]], -1) if outputs else x


def _attention(graph: Graph, tokens: KerasTensor, xca: ExportAttention, name: str) -> KerasTensor:
    """Add cross-covariance attention: ``[1, 1, N, C]`` → ``[1, 1, N, C]``.

    All heads at once: the full ``C×C`` product with a mask over other heads' blocks costs less
    than cutting the channels apart, for which every operand would have to be transposed.
    """
    qkv = centred(weights_of(xca.qkv))
    third = len(qkv.bias) // 3
    operands = []
    for index, letter in enumerate("qkv"):
        rows = slice(index * third, (index + 1) * third)
        weights = Weights(weight=qkv.weight[rows], bias=qkv.bias[rows])
        operands.append(graph.pointwise(tokens, f"{name}.{letter}", weights))
    head = np.repeat(np.arange(xca.num_heads), third // xca.num_heads)
    mask = np.where(head[:, None] == head, 0.0, OTHER_HEAD).astype(np.float32)
    temperature = xca.temperature.numpy().reshape(-1)[head][:, None]
    tf = graph.tf

    def attend(operands: list[Any]) -> Any:
        query, key, value = operands
        query = tf.transpose(query, (0, 1, 3, 2))
        # max(‖·‖, 1e-12) as in torch, on the squares
        of_query = tf.math.rsqrt(tf.maximum(tf.reduce_sum(query * query, -1, True), 1e-24))
        of_key = tf.math.rsqrt(tf.maximum(tf.reduce_sum(key * key, -2, True), 1e-24))
        scores = tf.matmul(query, key) * (of_query * temperature) * of_key
        return tf.matmul(value, tf.nn.softmax(scores + mask), transpose_b=True)

    mixed = graph.apply(f"{name}.attend", attend, operands)
    out = graph.pointwise(mixed, f"{name}.proj", weights_of(xca.proj))
    return graph.watch(name, out, channels_first=False)
