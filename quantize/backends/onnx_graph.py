"""A small editor of ONNX graphs: constants by value, readers, and where the layers are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edgefiqa.errors import ArtifactError
from edgefiqa.quantize.backends.weight_codes import Fingerprints

__all__ = ["Graph", "Place", "find_places"]

_MULTIPLIES = ("Conv", "Gemm", "MatMul")


class Graph:
    """A graph that is being rewritten.

    Attributes:
        model: The model; ``finish`` puts the result into it.
        constants: Its initialisers.
        shapes: Static shapes of all tensors.
        readers: The nodes that read each tensor, in the graph as it was given.
        writers: The node that writes each tensor, in the graph as it was given.
        nodes: The nodes written so far, in order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.constants = {
            initializer.name: numpy_helper.to_array(initializer)
            for initializer in graph.initializer
        }
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        known = [*inferred.value_info, *graph.input, *graph.output]
        self.shapes = {info.name: _shape_of(info) for info in known}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.writers = {name: node for node in graph.node for name in node.output}
        self.nodes: list[NodeProto] = []
        self._made: dict[str, str] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initialiser and return its name."""
        self.constants[name] = np.asarray(value, order="C")
        return name

    def shared(self, name: str, value: NDArray[Any]) -> str:
        """Return the name of an initialiser of this value; a new one gets the name given."""
        key = f"{value.dtype} {value.shape} {value.tobytes().hex()}"
        if key not in self._made:
            self._made[key] = self.constant(name, value)
        return self._made[key]

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node; the same operation on the same inputs is written only once.

        Returns:
            The name of its output; another than was asked for if it was there already.
        """
        node = helper.make_node(op, inputs, [output], **attributes)
        key = helper.make_node(op, inputs, [""], **attributes).SerializeToString().hex()
        if key not in self._made:
            node.name = f"{output}.{op}"
            self.nodes.append(node)
            self._made[key] = output
        return self._made[key]

    def only_reader(self, tensor: str) -> NodeProto | None:
        """Return the node that alone reads a tensor, if so."""
        readers = self.readers.get(tensor, [])
        written = {output.name for output in self.model.graph.output}
        return readers[0] if len(readers) == 1 and tensor not in written else None

    def finish(self) -> None:
        """Put the nodes into the model that the outputs need, with their initialisers."""
        graph = self.model.graph
        used = {output.name for output in graph.output}
        needed = []
        for node in reversed(self.nodes):
            if used.intersection(node.output):
                used.update(node.input)
                needed.append(node)
        del graph.node[:], graph.value_info[:]
        graph.node.extend(reversed(needed))
        del graph.initializer[:]
        graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for name, value in self.constants.items()
            if name in used
        )


def _shape_of(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(side.dim_value for side in info.type.tensor_type.shape.dim)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a layer is in the graph.

    Attributes:
        name: The layer.
        node: Its multiply.
        weight: float32 ``[out, …]`` as torch has it.
        bias: float32 ``[out]``, if it has one.
        output: The tensor with the bias added.
        adds: The node that adds the bias, if it is a separate one.
    """

    name: str
    node: NodeProto
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    output: str
    adds: NodeProto | None = None


def find_places(graph: Graph, weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Place]:
    """Find layers in an exported graph by their weights.

    Args:
        graph: The graph.
        weights: Layer name → weight, in the order the layers run.

    Returns:
        First output of the layer's multiply → its place.

    Raises:
        ArtifactError: If a layer is not there.
    """
    prints = Fingerprints(weights.items())
    places = {}
    for node in graph.model.graph.node:
        if node.op_type in _MULTIPLIES and node.input[1] in graph.constants:
            name = prints.take(graph.constants[node.input[1]])
            if name is not None:
                places[node.output[0]] = _describe(graph, name, node)
    if prints.left:
        raise ArtifactError(
            "these layers are not in the exported ONNX graph by their weights",
            value=", ".join(prints.left),
            next_step="keep their blocks in float in the recipe",
        )
    return places


def _describe(graph: Graph, name: str, node: NodeProto) -> Place:
    weight = graph.constants[node.input[1]]
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and not _flag(node, "transB"))
    weight = weight.T if transposed else weight
    bias = graph.constants[node.input[2]] if len(node.input) > 2 else None
    output, adds = node.output[0], None
    following = graph.only_reader(output)
    if node.op_type == "MatMul" and following is not None and following.op_type == "Add":
        other = next((input_name for input_name in following.input if input_name != output), output)
        if other in graph.constants and graph.constants[other].shape == (len(weight),):
            bias, output, adds = graph.constants[other], following.output[0], following
    return Place(name=name, node=node, weight=weight, bias=bias, output=output, adds=adds)


def _flag(node: NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
