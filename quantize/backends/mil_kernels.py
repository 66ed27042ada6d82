"""Which layers of a Core ML package have int8 operands: read from its program.

Core ML chooses its kernels on the device; what a file can say is what it hands to them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.quantize.backends.base import Executed
from edgefiqa.quantize.backends.weight_codes import Fingerprints, symmetric_codes, weights_of
from edgefiqa.quantize.plan import LayerPlan, Mode, Plan
from edgefiqa.runtimes.mil.package import open_package

__all__ = ["Multiply", "read_executed", "read_multiplies"]

_OPERATORS = {"conv", "linear"}


@dataclass(frozen=True, kw_only=True)
class Multiply:
    """One convolution or Linear of a program.

    Attributes:
        operator: Its MIL name.
        mode: STATIC if it reads dequantised codes, WEIGHT if only its weight is stored as codes.
        weight: int8 codes or floats.
    """

    operator: str
    mode: Mode
    weight: NDArray[np.float32] | NDArray[np.int8]


def read_multiplies(path: Path) -> list[Multiply]:
    """Return every convolution and Linear with a constant weight, in the order they run."""
    return list(_multiplies(open_package(path).function))


def _multiplies(function: Any) -> Iterator[Multiply]:
    for op in function.operations:
        if op.op_type not in _OPERATORS:
            continue
        source = op.weight.op
        if source.op_type == "constexpr_affine_dequantize":
            static = op.x.op is not None and op.x.op.op_type == "dequantize"
            mode, weight = Mode.STATIC if static else Mode.WEIGHT, source.quantized_data.val
        else:
            mode, weight = Mode.FLOAT, op.weight.val.astype(np.float32)
        yield Multiply(operator=op.op_type, mode=mode, weight=weight)


def read_executed(path: Path, scorer: ExportScorer, plan: Plan) -> list[Executed]:
    """Tell what each layer multiplies.

    Args:
        path: The package.
        scorer: What it was made of.
        plan: What it was made for.
    """
    weights = weights_of(scorer, [own.layer.name for own in plan.layers])
    prints = Fingerprints(
        (own.layer.name, _stored(weights[own.layer.name], own)) for own in plan.layers
    )
    found = {}
    for multiply in read_multiplies(path):
        name = prints.take(multiply.weight)
        if name is not None:
            found[name] = multiply.mode
    return [_describe(own, found.get(own.layer.name)) for own in plan.layers]


def _stored(weight: NDArray[np.float32], own: LayerPlan) -> NDArray[np.float32] | NDArray[np.int8]:
    if own.mode is Mode.FLOAT:
        return weight.astype(np.float16).astype(np.float32)
    return symmetric_codes(weight)[0]


def _describe(own: LayerPlan, mode: Mode | None) -> Executed:
    reason = ""
    if mode is None:
        reason = "no convolution or Linear of the program has its weight"
    elif mode is not own.mode:
        reason = f"the program gives it operands of mode {mode!s}"
    return Executed(
        name=own.layer.name, mode=mode or Mode.FLOAT, macs=own.layer.macs, reason=reason
    )
