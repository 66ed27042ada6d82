"""ExecuTorch through XNNPACK: the patterns that its partitioner turns into int8 kernels.

- Linear: dynamic, one range a row and float output (XNNPACK's qd8-f32-qc8w);
- convolutions: dynamic too, one range an image; or static, input and output quantised (qs8-qc8w);
- depthwise convolutions: float, which is as fast, or static.

There are no int8 weights for float arithmetic: a partitioner that finds them leaves the layer to a
portable kernel, which does not exist.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert import (
    ExportScorer,
    Normalise,
    count_partitions,
    example_image,
    split_large_depthwise,
    versions,
)
from edgefiqa.errors import ArtifactError
from edgefiqa.manifest import FileMetadata
from edgefiqa.quantize.backends.base import Built, check_modes
from edgefiqa.quantize.backends.multiplies import match_layers
from edgefiqa.quantize.backends.torch_qdq import (
    DynamicRange,
    QuantisedLayer,
    StaticRange,
    replace_layers,
    stored_weights,
)
from edgefiqa.quantize.backends.xnnpack_graphs import read_multiplies
from edgefiqa.quantize.plan import Kind, Layer, LayerPlan, Mode, QuantizationPlan, Range
from edgefiqa.runtimes.base import METADATA_KEY

__all__ = ["build", "supports", "variant"]

_BIAS_CODES = 2.0**24
"""Of a bias, at most: fine enough for any output code, far from overflow."""


class _Written(nn.Module):
    """Rounds the maps that a convolution writes.

    Where a float convolution and something else both read dequantised maps, ExecuTorch's layout
    pass turns them channels-last for both, and the program fails when it runs. A clamp to what the
    codes span changes no value, and keeps the two apart.
    """

    def __init__(self, values: Range) -> None:
        super().__init__()
        self.round = StaticRange(values)
        scale, zero = values.affine()
        self.low, self.high = scale * (-129 - zero), scale * (128 - zero)

    def forward(self, maps: Tensor) -> Tensor:
        rounded: Tensor = self.round(maps)
        return torch.clamp(rounded, self.low, self.high)


def variant(scorer: ExportScorer) -> ExportScorer:
    """Return a copy with large depthwise convolutions split; see ``Backend``."""
    return split_large_depthwise(scorer)


def supports(layer: Layer) -> tuple[Mode, ...]:
    """Return the modes of a layer, the best first; see ``Backend``."""
    if layer.regression:
        return (Mode.FLOAT,)
    if layer.kind is Kind.DEPTHWISE:
        return (Mode.FLOAT, Mode.STATIC)
    return (Mode.DYNAMIC, Mode.STATIC, Mode.FLOAT)


def build(
    scorer: ExportScorer, plan: QuantizationPlan, *, size: int, path: Path, metadata: FileMetadata
) -> Built:
    """Write a ``.pte`` file for XNNPACK; see ``Backend``."""
    check_modes(plan, supports, "ExecuTorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        quantised = replace_layers(scorer, plan, _quantise).eval()
        quantised.normalise = _as_convolution(quantised.normalise)
        program = to_edge_transform_and_lower(
            torch.export.export(quantised, (example_image(size),)),
            partitioner=[XnnpackPartitioner()],
            constant_methods={METADATA_KEY: metadata.model_dump_json()},
        )
        _check_delegated(program.exported_program())
        structure = count_partitions(program)
        with path.open("wb") as file:
            program.to_executorch().write_to_file(file)
    return Built(
        tools=versions("torch", "executorch"),
        structure=structure,
        layers=match_layers(read_multiplies(path), stored_weights(quantised, plan), plan),
    )


def _as_convolution(normalise: nn.Module) -> nn.Module:
    """Return a normalisation as a depthwise convolution; others as they are.

    ExecuTorch's layout pass turns what a dynamic range reads channels-last where it comes from, and
    goes back to the program's input for that, past the transposition and its mean of
    ``[1, 3, 1, 1]``: the program fails when it runs. A convolution's result is channels-last.
    """
    if not isinstance(normalise, Normalise):
        return normalise
    factor = normalise.factor
    convolution = nn.Conv2d(len(factor[0]), len(factor[0]), 1, groups=len(factor[0]))
    convolution.weight = nn.Parameter(factor.reshape(-1, 1, 1, 1).clone(), requires_grad=False)
    bias = (-normalise.mean * factor).flatten()
    convolution.bias = nn.Parameter(bias, requires_grad=False)
    return convolution


def _check_delegated(program: torch.export.ExportedProgram) -> None:
    """Refuse int8 weights outside XNNPACK: the portable kernels have no such operators.

    Raises:
        ArtifactError: Naming the layers.
    """
    buffers = program.graph_signature.inputs_to_buffers
    left = [
        buffers[node.args[0].name].rpartition(".")[0]
        for node in program.graph.nodes
        if "dequantize_per_channel" in str(node.target)
    ]
    if left:
        raise ArtifactError(
            "XNNPACK's partitioner does not take these layers in int8",
            value=", ".join(left),
            next_step="give them another mode, or install the executorch version of the extra",
        )


def _quantise(layer: nn.Conv2d | nn.Linear, plan: LayerPlan) -> nn.Module:
    if plan.mode is Mode.DYNAMIC:
        return QuantisedLayer(layer, reads=DynamicRange())
    assert plan.input is not None
    assert plan.output is not None
    return QuantisedLayer(
        layer,
        reads=StaticRange(plan.input),
        writes=_Written(plan.output) if isinstance(layer, nn.Conv2d) else StaticRange(plan.output),
        least_scales=_least_scales(layer, plan.input.affine()[0]),
    )


def _least_scales(layer: nn.Conv2d | nn.Linear, input_scale: float) -> NDArray[np.float64] | float:
    """Return the smallest weight scales that biases allow, float64 ``[out]``.

    A bias is int32 codes of input scale × weight scale, so neither may be too small, nor the scale
    of a channel of zeros anything but small.
    """
    if layer.bias is None:
        return 0.0
    magnitudes: NDArray[np.float64] = np.abs(layer.bias.detach().double().numpy())
    return magnitudes / (input_scale * _BIAS_CODES)
