"""Which layers a ``.tflite`` file executes in int8, and what of it XNNPACK takes."""

from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgefiqa.convert import unpack_tflite
from edgefiqa.quantize.backends.base import LayerExecution
from edgefiqa.quantize.backends.tflite_forms import CODES
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan

__all__ = ["delegated", "read_executed"]


def delegated(path: Path) -> tuple[int, set[int]]:
    """Ask LiteRT what it gives to XNNPACK.

    Returns:
        The number of partitions, and the indices of all tensors that they read, weights included.
    """
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    operators = interpreter._get_ops_details()
    partitions = [operator for operator in operators if operator["op_name"] == "DELEGATE"]
    return len(partitions), {
        int(index) for partition in partitions for index in partition["inputs"]
    }


def read_executed(
    path: Path, plan: QuantizationPlan
) -> tuple[list[LayerExecution], dict[str, Any]]:
    """Tell how each layer is executed.

    int8 weights in an operator that reads int8 are static, in one that reads float dynamic, and
    behind a DEQUANTIZE they are weights only.

    Args:
        path: The file.
        plan: What it was made for.

    Returns:
        Every layer of the plan; and what XNNPACK takes, for the manifest.
    """
    modes, weights = _read_modes(unpack_tflite(path.read_bytes()).subgraphs[0])
    partitions, taken = delegated(path)
    outside = [
        name
        for name, index in weights.items()
        if index not in taken and modes[name] in (Mode.STATIC, Mode.DYNAMIC)
    ]
    layers = [
        _describe(planned, modes.get(planned.layer.name, Mode.FLOAT)) for planned in plan.layers
    ]
    return layers, {"xnnpack_partitions": partitions, "int8_layers_outside_xnnpack": outside}


def _read_modes(graph: Any) -> tuple[dict[str, Mode], dict[str, int]]:
    """Return mode and weight tensor of every layer with int8 weights in the file."""
    int8 = schema.TensorType.INT8
    named = {
        index: name.removesuffix(CODES)
        for index, tensor in enumerate(graph.tensors)
        if (name := tensor.name.decode()).endswith(CODES) and tensor.type == int8
    }
    modes = {}
    for operator in graph.operators:
        first, *rest = map(int, operator.inputs)
        if first in named:
            modes[named[first]] = Mode.WEIGHT
        elif rest and rest[0] in named:
            static = graph.tensors[first].type == int8
            modes[named[rest[0]]] = Mode.STATIC if static else Mode.DYNAMIC
    return modes, {name: index for index, name in named.items()}


def _describe(planned: LayerPlan, mode: Mode) -> LayerExecution:
    reason = "" if mode is planned.mode else f"the file has it in mode {mode!s}"
    return LayerExecution(
        name=planned.layer.name, mode=mode, macs=planned.layer.macs, reason=reason
    )
