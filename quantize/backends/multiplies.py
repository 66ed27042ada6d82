"""The multiplies that are found in a file, and what they say about the layers of a plan."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.quantize.backends.base import LayerExecution
from edgefiqa.quantize.backends.weight_codes import Fingerprints
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan

__all__ = ["Multiply", "match_layers"]


@dataclass(frozen=True, kw_only=True)
class Multiply:
    """One convolution or Linear of a file.

    Attributes:
        operator: The format's name of it.
        mode: By the types of its operands.
        weight: int8 codes or float32, in any layout.
    """

    operator: str
    mode: Mode
    weight: NDArray[np.float32] | NDArray[np.int8]


def match_layers(
    multiplies: Iterable[Multiply], weights: Mapping[str, NDArray[Any]], plan: QuantizationPlan
) -> list[LayerExecution]:
    """Tell how each layer is executed, by the multiply that has its weights.

    Args:
        multiplies: What the file holds, in the order they run.
        weights: Layer name → its weights as they should be stored: int8 codes or float32.
        plan: What the file was made for.
    """
    prints = Fingerprints(
        (planned.layer.name, weights[planned.layer.name]) for planned in plan.layers
    )
    found = {}
    for multiply in multiplies:
        name = prints.take(multiply.weight)
        if name is not None:
            found[name] = multiply
    return [_describe(planned, found.get(planned.layer.name)) for planned in plan.layers]


def _describe(planned: LayerPlan, found: Multiply | None) -> LayerExecution:
    mode, reason = Mode.FLOAT, ""
    if found is None:
        reason = "no int8 or delegated operator of the file has its weights"
    else:
        mode = found.mode
        if mode is not planned.mode:
            reason = f"the file's {found.operator} has operands of mode {mode!s}"
    return LayerExecution(
        name=planned.layer.name, mode=mode, macs=planned.layer.macs, reason=reason
    )
