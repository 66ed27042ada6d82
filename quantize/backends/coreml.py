"""Core ML: int8 weights as compressed constants, int8 activations as quantise/dequantise pairs.

- weights only: ``constexpr_affine_dequantize``, iOS 16 and later, like the float export;
- static: ``quantize`` → ``dequantize`` before the layer, iOS 17 and later. Outputs stay float16.

There are no dynamic ranges. The deployment target is the oldest that has what the plan asks for;
the file's structure names it.
"""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert.exporters.base import versions
from edgefiqa.convert.exporters.coreml import remove_aliases
from edgefiqa.convert.prepare import ExportScorer
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
from edgefiqa.quantize.plan import Layer, LayerPlan, Mode, Plan
from edgefiqa.quantize.vendor.coreml_file import finish
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["build", "supports", "variant"]

_SMALLEST_NORMAL = 2.0**-14
"""Of float16, in which scales are stored; below it they lose digits."""


class _ImageInput(nn.Module):
    """The scorer as Core ML feeds it: float pixels 0..255, ``[1, 3, S, S]``."""

    def __init__(self, scorer: ExportScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, image: Tensor) -> Tensor:
        return self.scorer.forward_nchw(image)


def variant(scorer: ExportScorer) -> ExportScorer:
    """Return the network as it is; see ``Backend``."""
    return scorer


def supports(layer: Layer) -> tuple[Mode, ...]:
    """Return the modes of a layer, the best first; see ``Backend``."""
    if layer.regression:
        return (Mode.FLOAT,)
    return (Mode.STATIC, Mode.WEIGHT, Mode.FLOAT)


def build(
    scorer: ExportScorer, plan: Plan, *, size: int, path: Path, metadata: FileMetadata
) -> Built:
    """Write an ``.mlpackage`` that computes in float16 and int8; see ``Backend``."""
    check_modes(plan, supports, "Core ML")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        target = ct.target.iOS17 if plan.in_mode(Mode.STATIC) else ct.target.iOS16
        quantised = replace_layers(scorer, plan, _quantise)
        model = _convert(ct, quantised, size, target)
        _check_target(model, target)
        structure = finish(model, path, metadata)
    return Built(
        tools=versions("torch", "coremltools"),
        structure={"deployment_target": target.name} | structure,
        layers=match_layers(read_multiplies(path), _in_float16(quantised, plan), plan),
    )


def _convert(ct: Any, scorer: ExportScorer, size: int, target: Any) -> Any:
    example = torch.zeros(1, 3, size, size)
    exported = torch.export.export(_ImageInput(scorer).eval(), (example,)).run_decompositions({})
    remove_aliases(exported)
    image = ct.ImageType(name="image", shape=example.shape, color_layout=ct.colorlayout.RGB)
    return ct.convert(
        exported,
        inputs=[image],
        outputs=[ct.TensorType(name="score", dtype=np.float32)],
        compute_precision=ct.precision.FLOAT16,
        minimum_deployment_target=target,
        skip_model_load=True,
    )


def _check_target(model: Any, target: Any) -> None:
    """Refuse a program that needs a newer system than was asked for.

    Raises:
        ArtifactError: If Core ML Tools raised the program's version on its own.
    """
    got = model.get_spec().specificationVersion
    if got != target.value:
        raise ArtifactError(
            "Core ML Tools wrote a program for another system than it was asked for",
            value=f"specification version {got}",
            allowed=f"{target.value}, for {target.name}",
            next_step="install the coremltools version of the extra 'coreml'",
        )


def _in_float16(scorer: ExportScorer, plan: Plan) -> dict[str, NDArray[Any]]:
    """Return what the file should hold of each layer: codes, or what float16 leaves of floats."""
    return {
        name: weight if weight.dtype == np.int8 else weight.astype(np.float16).astype(np.float32)
        for name, weight in stored_weights(scorer, plan).items()
    }


def _quantise(layer: nn.Conv2d | nn.Linear, plan: LayerPlan) -> nn.Module:
    if plan.mode is Mode.WEIGHT:
        return QuantisedLayer(layer, zero_type=torch.int8)  # iOS 16 has no cast to int8
    assert plan.input is not None
    factor = _moved(layer, plan.input.affine()[0])
    reads = StaticRange(plan.input, shrink=factor)
    return QuantisedLayer(layer, reads=reads, grow=factor, zero_type=torch.int8)


def _moved(layer: nn.Conv2d | nn.Linear, input_scale: float) -> float:
    """Return the power of two that weights take over from their input, for scales in float16.

    A stem that reads pixels 0..255 has scales of 1e-5, where float16 has eight bits left. So many
    bits are moved as bring its smallest scale among the normal numbers, unless the input's leaves.
    """
    _, scales = symmetric_codes(layer.weight.detach().numpy())
    wanted = math.ceil(math.log2(_SMALLEST_NORMAL / float(scales.min())))
    possible = math.floor(math.log2(input_scale / _SMALLEST_NORMAL))
    return 2.0 ** max(0, min(wanted, possible))
