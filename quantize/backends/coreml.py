"""Core ML: int8 weights as compressed constants, int8 activations as quantise/dequantise pairs.

- weights only: ``constexpr_affine_dequantize``, iOS 16 and later, like the float export;
- static: ``quantize`` → ``dequantize`` before the layer, iOS 17 and later. Outputs stay float16;
- dynamic: ranges are constants in a file, so the layer reads its input divided by the image's
  largest magnitude, and what it gives is multiplied by that again: exact but for the rounding.

The deployment target is the oldest that has what the plan asks for; the file's structure names it.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert import ExportScorer, ImageInput, convert_coreml, finish_coreml, versions
from edgefiqa.errors import ArtifactError
from edgefiqa.manifest import FileMetadata
from edgefiqa.quantize.backends.base import Built, check_modes
from edgefiqa.quantize.backends.mil_operands import read_multiplies
from edgefiqa.quantize.backends.multiplies import match_layers
from edgefiqa.quantize.backends.torch_qdq import (
    QuantisedLayer,
    StaticRange,
    replace_layers,
    stored_weights,
)
from edgefiqa.quantize.backends.weight_codes import symmetric_codes
from edgefiqa.quantize.engine import INT8
from edgefiqa.quantize.plan import Layer, LayerPlan, Mode, QuantizationPlan
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["build", "supports", "variant"]

_SMALLEST_NORMAL = 2.0**-14
"""Of float16, in which scales are stored; below it they lose digits."""
_LEAST_PEAK = 2.0**-10
"""An input without larger values is as good as zero, and nothing is divided by zero."""


class _RelativeLayer(QuantisedLayer):
    """Reads its input as a share of the image's largest magnitude, and takes the share back."""

    def __init__(self, source: nn.Conv2d | nn.Linear, **options: Any) -> None:
        super().__init__(source, **options)
        self.added, self.bias = self.bias, None

    def forward(self, values: Tensor) -> Tensor:
        """Multiply: what the float layer takes → what it gives."""
        axes = tuple(range(1, values.dim()))
        peak = values.abs().amax(axes, keepdim=True).clamp_min(_LEAST_PEAK)
        result = super().forward(values / peak) * peak
        if self.added is None:
            return result
        return result + (self.added if self.geometry is None else self.added.view(-1, 1, 1))


def variant(scorer: ExportScorer) -> ExportScorer:
    """Return the network as it is; see ``Backend``."""
    return scorer


def supports(layer: Layer) -> tuple[Mode, ...]:
    """Return the modes of a layer, the best first; see ``Backend``."""
    if layer.regression:
        return (Mode.FLOAT,)
    return (Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT, Mode.FLOAT)


def build(
    scorer: ExportScorer, plan: QuantizationPlan, *, size: int, path: Path, metadata: FileMetadata
) -> Built:
    """Write an ``.mlpackage`` that computes in float16 and int8; see ``Backend``."""
    check_modes(plan, supports, "Core ML")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        target = ct.target.iOS17 if plan.in_mode(*INT8) else ct.target.iOS16
        quantised = replace_layers(scorer, plan, _quantise)
        model = convert_coreml(ImageInput(quantised).eval(), size=size, target=target.name)
        _check_target(model, target)
        structure = finish_coreml(model, path, metadata, size=size)
    return Built(
        tools=versions("torch", "coremltools"),
        structure={"deployment_target": target.name} | structure,
        layers=match_layers(read_multiplies(path), _in_float16(quantised, plan), plan),
    )


def _check_target(model: Any, target: Any) -> None:
    """Refuse a program that needs a newer system than was asked for.

    Raises:
        ArtifactError: If Core ML Tools raised the program's version by itself.
    """
    got = model.get_spec().specificationVersion
    if got != target.value:
        raise ArtifactError(
            "Core ML Tools wrote a program for another system than it was asked for",
            value=f"specification version {got}",
            allowed=f"{target.value}, for {target.name}",
            next_step="install the coremltools version of the extra 'coreml'",
        )


def _in_float16(scorer: ExportScorer, plan: QuantizationPlan) -> dict[str, NDArray[Any]]:
    """Return what the file should hold of each layer: codes, or what float16 leaves of floats."""
    return {
        name: weight if weight.dtype == np.int8 else weight.astype(np.float16).astype(np.float32)
        for name, weight in stored_weights(scorer, plan).items()
    }


def _quantise(layer: nn.Conv2d | nn.Linear, plan: LayerPlan) -> nn.Module:
    if plan.mode is Mode.WEIGHT:
        return QuantisedLayer(layer, zero_type=torch.int8)  # iOS 16 has no cast to int8
    range_ = plan.input if plan.mode is Mode.STATIC else plan.relative
    assert range_ is not None
    factor = _moved(layer, range_.affine()[0])
    kind = QuantisedLayer if plan.mode is Mode.STATIC else _RelativeLayer
    reads = StaticRange(range_, shrink=factor)
    return kind(layer, reads=reads, grow=factor, zero_type=torch.int8)


def _moved(layer: nn.Conv2d | nn.Linear, input_scale: float) -> float:
    """Return the power of two that weights take over from their input, for scales in float16.

    A stem that reads pixels 0..255 has scales of 1e-5, where float16 has eight bits left. So many
    bits are moved as bring its smallest scale among the normal numbers, unless the input's leaves.
    """
    _, scales = symmetric_codes(layer.weight.detach().numpy())
    wanted = math.ceil(math.log2(_SMALLEST_NORMAL / float(scales.min())))
    possible = math.floor(math.log2(input_scale / _SMALLEST_NORMAL))
    return 2.0 ** max(0, min(wanted, possible))
