"""Which layers ONNX Runtime executes in int8: read from the graph that it makes of a file."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from edgefiqa.quantize.backends.base import LayerExecution
from edgefiqa.quantize.backends.onnx_forms import CODES
from edgefiqa.quantize.backends.weight_codes import Fingerprints
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan

__all__ = ["optimise", "read_executed"]

_KERNELS = {
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
}
_MOVES = {"Reshape", "Transpose"}


def optimise(path: Path) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime executes of a file, on this processor."""
    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3  # it warns that such a file fits this processor only
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def read_executed(path: Path, plan: QuantizationPlan) -> list[LayerExecution]:
    """Tell how each layer is executed.

    A layer is static or dynamic if its codes are the weights of an int8 kernel in the optimised
    graph; it has int8 weights only if they are in the file but in no such kernel.

    Args:
        path: The file.
        plan: What it was made for.
    """
    written = _tensors(onnx.load(str(path)))
    names = [planned.layer.name for planned in plan.layers if planned.layer.name + CODES in written]
    optimised = optimise(path)
    prints = Fingerprints((name, written[name + CODES]) for name in names)
    kernels = _find_kernels(optimised, prints)
    return [_describe(planned, planned.layer.name in names, kernels) for planned in plan.layers]


def _tensors(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {
        initializer.name: numpy_helper.to_array(initializer)
        for initializer in model.graph.initializer
    }


def _find_kernels(model: onnx.ModelProto, prints: Fingerprints) -> dict[str, tuple[Mode, str]]:
    """Return mode and operator of each layer in an int8 kernel."""
    constants = _tensors(model)
    writers = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type not in _KERNELS:
            continue
        for weight in filter(None, (_codes(constants.get(name)) for name in node.input)):
            layer = prints.take(weight[0])
            if layer is not None:
                found[layer] = (_mode(node, writers), node.op_type)
    return found


def _codes(values: NDArray[Any] | None) -> tuple[NDArray[Any]] | None:
    """Return the codes that a constant holds, in a tuple; None for all that is no weight."""
    if values is None or values.ndim < 2 or values.dtype not in (np.int8, np.uint8):
        return None
    # Processors without VNNI may be given the codes as uint8 with the zero point 128.
    return (values.astype(np.int16) - (128 if values.dtype == np.uint8 else 0),)


def _mode(node: NodeProto, writers: dict[str, NodeProto]) -> Mode:
    if node.op_type == "DynamicQuantizeMatMul":
        return Mode.DYNAMIC
    source = writers.get(node.input[0])
    while source is not None and source.op_type in _MOVES:
        source = writers.get(source.input[0])
    dynamic = source is not None and source.op_type == "DynamicQuantizeLinear"
    return Mode.DYNAMIC if dynamic else Mode.STATIC


def _describe(
    planned: LayerPlan, stored: bool, kernels: dict[str, tuple[Mode, str]]
) -> LayerExecution:
    name = planned.layer.name
    mode, operator = kernels.get(name, (Mode.WEIGHT if stored else Mode.FLOAT, "a float operator"))
    reason = "" if mode is planned.mode else f"ONNX Runtime executes it as {operator}"
    return LayerExecution(name=name, mode=mode, macs=planned.layer.macs, reason=reason)
