"""The convolutions and Linears of a Core ML package, and what they are handed.

Core ML chooses its kernels on the device; a file can only say which operands are int8 codes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgefiqa.quantize.backends.multiplies import Multiply
from edgefiqa.quantize.plan import Mode
from edgefiqa.runtimes.mil.package import open_package

__all__ = ["read_multiplies"]

_OPERATORS = {"conv", "linear"}


def read_multiplies(path: Path) -> list[Multiply]:
    """Return every convolution and Linear with a constant weight, in the order they run."""
    return list(_multiplies(open_package(path).function))


def _multiplies(function: Any) -> Iterator[Multiply]:
    for op in function.operations:
        if op.op_type not in _OPERATORS:
            continue
        source = op.weight.op
        if source.op_type == "constexpr_affine_dequantize":
            mode, weight = _mode(op.x.op), source.quantized_data.val
        else:
            mode, weight = Mode.FLOAT, op.weight.val.astype(np.float32)
        yield Multiply(operator=op.op_type, mode=mode, weight=weight)


def _mode(reads: Any) -> Mode:
    """Tell the mode of a multiply with int8 weights by the operator that it reads."""
    if reads is None or reads.op_type != "dequantize":
        return Mode.WEIGHT
    source = reads.input.op.input.op  # dequantize ← quantize ← a share of the largest magnitude?
    divided = source is not None and source.op_type == "real_div" and source.y.op is not None
    return Mode.DYNAMIC if divided and source.y.val is None else Mode.STATIC
