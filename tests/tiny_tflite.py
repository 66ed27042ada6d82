"""A TFLite scorer small enough to be made and run in milliseconds: the mean of the pixels."""

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SIDE = 16


def _tensor(name: str, shape: list[int], kind: int, buffer: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    return tensor


def _operator(code: int, inputs: list[int], output: int) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
    return operator


def write_tiny_tflite(path: Path, *, size: int = SIDE, output: tuple[int, ...] = (1,)) -> Path:
    """Write cast → mean over everything → reshape, on uint8 ``[1, size, size, 3]``.

    Args:
        path: The file.
        size: Side of the input.
        output: Shape of the output.
    """
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version = 3
    # The first buffer is empty by convention; the others hold the axes and the output's shape.
    values = [None, np.arange(4, dtype=np.int32), np.array(output, np.int32)]
    model.buffers = []
    for value in values:
        buffer = schema.BufferT()
        buffer.data = None if value is None else np.frombuffer(value.tobytes(), np.uint8)
        model.buffers.append(buffer)
    types = schema.TensorType
    graph.tensors = [
        _tensor("image", [1, size, size, 3], types.UINT8, 0),
        _tensor("axes", [4], types.INT32, 1),
        _tensor("shape", [len(output)], types.INT32, 2),
        _tensor("pixels", [1, size, size, 3], types.FLOAT32, 0),
        _tensor("mean", [], types.FLOAT32, 0),
        _tensor("score", list(output), types.FLOAT32, 0),
    ]
    builtins = schema.BuiltinOperator
    model.operatorCodes = []
    for builtin in (builtins.CAST, builtins.MEAN, builtins.RESHAPE):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        model.operatorCodes.append(code)
    graph.operators = [
        _operator(0, [0], 3),
        _operator(1, [3, 1], 4),
        _operator(2, [4, 2], 5),
    ]
    reducer = schema.ReducerOptionsT()
    reducer.keepDims = False
    graph.operators[1].builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    graph.operators[1].builtinOptions = reducer
    graph.inputs, graph.outputs = [0], [5]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(builder.Output()))
    return path
