"""Faults planted in exported files, as wrong exports and wrong quantisation make them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from edgefiqa.convert.tflite_file import pack, unpack
from edgefiqa.quantize.backends.tflite_graph import TfliteGraph

__all__ = [
    "gather_image",
    "perturb_onnx",
    "perturb_tflite",
    "replace_constants",
    "shift_codes",
    "shift_zero_point",
]


def gather_image(path: Path, indices: Mapping[int, Sequence[int]]) -> None:
    """Let an ONNX graph read other rows, columns or channels than those it is given.

    Args:
        path: The file.
        indices: Axis of the uint8 image ``[1, S, S, 3]`` → what to read along it.
    """
    model = onnx.load(path)
    image = model.graph.input[0].name
    readers = [node for node in model.graph.node if image in node.input]
    tensor, nodes = image, []
    for axis, wanted in indices.items():
        name = f"planted.{axis}"
        model.graph.initializer.append(
            numpy_helper.from_array(np.asarray(wanted, np.int64), f"{name}.indices")
        )
        nodes.append(helper.make_node("Gather", [tensor, f"{name}.indices"], [name], axis=axis))
        tensor = name
    for node in readers:
        node.input[:] = [tensor if input_name == image else input_name for input_name in node.input]
    for place, node in enumerate(nodes):
        model.graph.node.insert(place, node)
    _save(model, path)


def replace_constants(path: Path, old: NDArray[np.float64], new: NDArray[np.float64]) -> None:
    """Replace every float32 constant of a file that holds these values, whatever its shape."""
    changed, single = 0, new.astype(np.float32)
    if path.suffix == ".onnx":
        model = onnx.load(path)
        for initializer in model.graph.initializer:
            values = numpy_helper.to_array(initializer)
            if _holds(values, old):
                initializer.CopyFrom(
                    numpy_helper.from_array(single.reshape(values.shape), initializer.name)
                )
                changed += 1
        _save(model, path)
    else:
        graph = TfliteGraph(unpack(path.read_bytes()))
        for index in range(len(graph.tensors)):
            found = graph.values(index)
            if found is not None and _holds(found, old):
                _store(graph, index, single.reshape(found.shape))
                changed += 1
        path.write_bytes(pack(graph.model))
    assert changed, f"{path.name} holds no constant {old}"


def _holds(values: NDArray[np.generic], old: NDArray[np.float64]) -> bool:
    return (
        values.dtype == np.float32
        and values.size == old.size
        and np.allclose(values.ravel(), old.ravel(), rtol=1e-5, atol=1e-9)
    )


def perturb_onnx(path: Path, name: str, share: float) -> None:
    """Put noise on the constants whose names match a pattern, relative to their spread."""
    model, rng, changed = onnx.load(path), np.random.default_rng(0), 0
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if re.fullmatch(name, initializer.name):
            noisy = _noisy(values, share, rng)
            initializer.CopyFrom(numpy_helper.from_array(noisy, initializer.name))
            changed += 1
    assert changed, f"{path.name} holds no constant {name}"
    _save(model, path)


def perturb_tflite(path: Path, output: str, share: float) -> None:
    """Put noise on the float weight of the operator whose result's name matches a pattern."""
    graph, rng = TfliteGraph(unpack(path.read_bytes())), np.random.default_rng(0)
    weights = []
    for operator in graph.given:
        if not re.fullmatch(output, _text(graph.tensors[int(operator.outputs[0])].name)):
            continue
        constants = [(int(i), graph.values(int(i))) for i in operator.inputs]
        weights += [(i, array) for i, array in constants if array is not None and array.ndim > 1]
    assert len(weights) == 1, f"{path.name} holds {len(weights)} such weights"
    index, found = weights[0]
    _store(graph, index, _noisy(found, share, rng))
    path.write_bytes(pack(graph.model))


def shift_codes(path: Path, name: str, steps: int) -> None:
    """Shift a TFLite file's int8 codes against their zero point.

    Args:
        path: The file.
        name: Of the tensor with the codes.
        steps: By how many.
    """
    graph = TfliteGraph(unpack(path.read_bytes()))
    (index,) = (i for i, tensor in enumerate(graph.tensors) if _text(tensor.name) == name)
    found = graph.values(index)
    assert found is not None
    _store(graph, index, np.clip(found.astype(np.int32) + steps, -128, 127).astype(np.int8))
    path.write_bytes(pack(graph.model))


def shift_zero_point(path: Path, layer: str, steps: int) -> None:
    """Let a layer of an ONNX file read its activations with another zero point than they have."""
    model = onnx.load(path)
    constants = {initializer.name: initializer for initializer in model.graph.initializer}
    writers = {name: node for node in model.graph.node for name in node.output}
    (reader,) = (
        node
        for node in model.graph.node
        if f"{layer}.weight.float" in node.input and node.op_type in ("Conv", "Gemm")
    )
    read = next(_dequantised(reader.input[0], writers))
    zero = numpy_helper.to_array(constants[read.input[2]])
    assert zero.dtype == np.uint8
    shifted = np.array(np.clip(int(zero) + steps, 0, 255), np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(shifted, "planted.zero"))
    read.input[2] = "planted.zero"
    _save(model, path)


def _dequantised(tensor: str, writers: Mapping[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    while tensor in writers:
        node = writers[tensor]
        if node.op_type == "DequantizeLinear":
            yield node
        tensor = node.input[0]


def _noisy(
    values: NDArray[np.generic], share: float, rng: np.random.Generator
) -> NDArray[np.generic]:
    floats = values.astype(np.float64)
    floats = floats + share * floats.std() * rng.normal(size=values.shape)
    if values.dtype == np.int8:
        floats = np.clip(np.rint(floats), -127, 127)
    noisy: NDArray[np.generic] = floats.astype(values.dtype)
    return noisy


def _store(graph: TfliteGraph, index: int, values: NDArray[np.generic]) -> None:
    """Give a tensor a separate buffer, so that others that share it keep theirs."""
    data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    graph.model.buffers.append(schema.BufferT(data=data))
    graph.tensors[index].buffer = len(graph.model.buffers) - 1


def _text(name: bytes | str | None) -> str:
    return name.decode() if isinstance(name, bytes) else name or ""


def _save(model: ModelProto, path: Path) -> None:
    onnx.checker.check_model(model)
    onnx.save(model, path)
