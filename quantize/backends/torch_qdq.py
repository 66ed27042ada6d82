"""Convolutions and Linears with their quantisation written out, for formats made by torch.export.

The operators are those of ``torch.ops.quantized_decomposed``: what ExecuTorch's partitioner and
Core ML Tools look for. Activations are int8; weights are int8 constants, one scale an output
channel.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert import ExportScorer
from edgefiqa.quantize.backends.weight_codes import symmetric_codes
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan, Range

__all__ = ["DynamicRange", "QuantisedLayer", "StaticRange", "replace_layers", "stored_weights"]

_LOW, _HIGH = -128, 127
_LEAST_SCALE = 2.0**-23
"""What torch's dynamic quantisation uses; each runtime has another."""

_OPS = torch.ops.quantized_decomposed


class StaticRange(nn.Module):
    """Rounds a tensor to int8 codes of a calibrated range.

    Args:
        values: The range.
        shrink: What the values are divided by on the way back, a power of two; whoever reads them
            multiplies its weights by it.
    """

    def __init__(self, values: Range, *, shrink: float = 1.0) -> None:
        super().__init__()
        self.scale, self.zero = values.affine()
        self.scale_back = self.scale / shrink

    def forward(self, values: Tensor) -> Tensor:
        """Round: float of any shape → the same shape."""
        codes = _OPS.quantize_per_tensor(values, self.scale, self.zero, _LOW, _HIGH, torch.int8)
        rounded: Tensor = _OPS.dequantize_per_tensor(
            codes, self.scale_back, self.zero, _LOW, _HIGH, torch.int8
        )
        return rounded


class DynamicRange(nn.Module):
    """Rounds a tensor to int8 codes of the tensor's range.

    In torch the range is one for the tensor; XNNPACK takes one for each row of a Linear.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Round: float of any shape → the same shape."""
        scale, zero = _OPS.choose_qparams.tensor(values, _LOW, _HIGH, _LEAST_SCALE, torch.int8)
        codes = _OPS.quantize_per_tensor.tensor(values, scale, zero, _LOW, _HIGH, torch.int8)
        rounded: Tensor = _OPS.dequantize_per_tensor.tensor(
            codes, scale, zero, _LOW, _HIGH, torch.int8
        )
        return rounded


class QuantisedLayer(nn.Module):
    """A convolution or Linear with int8 weights.

    Args:
        source: The float layer; its weights are rounded symmetrically per output channel.
        reads: Rounds what it reads; None for float.
        writes: Rounds what it writes; None for float.
        grow: What weights are multiplied by, see ``StaticRange``.
        zero_type: Integer type of the weights' zero points, which are all 0.
        least_scales: See ``symmetric_codes``.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor

    def __init__(
        self,
        source: nn.Conv2d | nn.Linear,
        *,
        reads: nn.Module | None = None,
        writes: nn.Module | None = None,
        grow: float = 1.0,
        zero_type: torch.dtype = torch.int64,
        least_scales: NDArray[np.float64] | float = 0.0,
    ) -> None:
        super().__init__()
        codes, scales = symmetric_codes(source.weight.detach().numpy(), least_scales)
        self.register_buffer("codes", torch.from_numpy(codes))
        self.register_buffer("scales", torch.from_numpy(scales * np.float32(grow)))
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=zero_type))
        self.bias = source.bias
        self.reads, self.writes = reads, writes
        self.geometry: tuple[Any, ...] | None = None
        if isinstance(source, nn.Conv2d):
            if source.padding_mode != "zeros":
                msg = f"a convolution that pads with {source.padding_mode!r} has no int8 form"
                raise ValueError(msg)
            self.geometry = (source.stride, source.padding, source.dilation, source.groups)

    def forward(self, values: Tensor) -> Tensor:
        """Multiply: what the float layer takes → what it gives."""
        if self.reads is not None:
            values = self.reads(values)
        weight = _OPS.dequantize_per_channel(
            self.codes, self.scales, self.zeros, 0, _LOW, _HIGH, torch.int8
        )
        if self.geometry is None:
            result = nn.functional.linear(values, weight, self.bias)
        else:
            result = nn.functional.conv2d(values, weight, self.bias, *self.geometry)
        return result if self.writes is None else self.writes(result)


def replace_layers(
    scorer: ExportScorer,
    plan: QuantizationPlan,
    make: Callable[[nn.Conv2d | nn.Linear, LayerPlan], nn.Module],
) -> ExportScorer:
    """Return a copy whose layers of any mode but float are replaced.

    Args:
        scorer: The network; it is not changed.
        plan: Its plan.
        make: Builds what replaces a layer.
    """
    changed = copy.deepcopy(scorer)
    for layer in plan.layers:
        if layer.mode is Mode.FLOAT:
            continue
        parent, _, name = layer.layer.name.rpartition(".")
        module = changed.get_submodule(layer.layer.name)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        setattr(changed.get_submodule(parent), name, make(module, layer))
    return changed


def stored_weights(scorer: ExportScorer, plan: QuantizationPlan) -> dict[str, NDArray[Any]]:
    """Return what a file should hold of each layer: int8 codes, or the float32 weight.

    Args:
        scorer: What ``replace_layers`` returned.
        plan: The plan.
    """
    found = {}
    for planned in plan.layers:
        module = scorer.get_submodule(planned.layer.name)
        tensor = module.codes if isinstance(module, QuantisedLayer) else module.weight
        assert isinstance(tensor, Tensor)
        found[planned.layer.name] = tensor.detach().numpy()
    return found
