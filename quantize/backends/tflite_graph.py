"""A small editor of TFLite flatbuffers: tensors, operators, and where the layers are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgefiqa.errors import ArtifactError
from edgefiqa.quantize.backends.weight_codes import Fingerprints

__all__ = ["DTYPES", "Place", "TfliteGraph", "affine", "find_places"]

_OPS = schema.BuiltinOperator
_TYPES = schema.TensorType
DTYPES: dict[int, Any] = {
    _TYPES.FLOAT32: np.float32,
    _TYPES.INT8: np.int8,
    _TYPES.INT32: np.int32,
    _TYPES.UINT8: np.uint8,
}
"""numpy types of the tensors that are read or written here."""

_CHANNEL_AXIS = {_OPS.FULLY_CONNECTED: 0, _OPS.CONV_2D: 0, _OPS.DEPTHWISE_CONV_2D: 3}


class TfliteGraph:
    """The one subgraph of a model that is being rewritten.

    Attributes:
        model: The ``schema.ModelT``; ``finish`` puts the result into it.
        tensors: Its tensors; new ones are appended.
        given: Its operators as they were.
        operators: The operators written so far, in order.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._graph = model.subgraphs[0]
        self.tensors = self._graph.tensors
        self.given = list(self._graph.operators)
        self.operators: list[Any] = []
        self._named = len(self.tensors)

    @property
    def image(self) -> int:
        """Index of the tensor with the image."""
        return int(self._graph.inputs[0])

    def kind(self, operator: Any) -> int:
        """Return an operator's builtin code."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))

    def values(self, index: int) -> NDArray[Any] | None:
        """Return a constant tensor's values; None for what is computed, or of another type."""
        if index < 0:
            return None
        tensor = self.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0 or tensor.type not in DTYPES:
            return None
        flat: NDArray[Any] = np.asarray(data, np.uint8).view(DTYPES[tensor.type])
        return flat.reshape(_shape(tensor))

    def constant(self, name: str, values: NDArray[Any], quantisation: Any = None) -> int:
        """Append a constant tensor and return its index."""
        data = np.frombuffer(np.asarray(values, order="C").tobytes(), np.uint8)
        self.model.buffers.append(schema.BufferT(data=data))
        return self._append(
            name, values.shape, values.dtype, quantisation, len(self.model.buffers) - 1
        )

    def tensor_like(self, index: int, name: str, dtype: Any, quantisation: Any = None) -> int:
        """Append a computed tensor of another one's shape and return its index."""
        return self._append(name, _shape(self.tensors[index]), dtype, quantisation, 0)

    def _append(
        self, name: str, shape: tuple[int, ...], dtype: Any, quantisation: Any, buffer: int
    ) -> int:
        code = next(code for code, known in DTYPES.items() if np.dtype(known) == np.dtype(dtype))
        tensor = schema.TensorT(shape=np.array(shape, np.int32), type=code, buffer=buffer)
        tensor.name, tensor.quantization = name, quantisation
        tensor.hasRank = True
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add(self, kind: int, source: int, target: int) -> None:
        """Append an operator of one input and one output that has no options."""
        codes = self.model.operatorCodes
        known = [i for i, code in enumerate(codes) if int(code.builtinCode) == kind]
        if not known:
            codes.append(
                schema.OperatorCodeT(builtinCode=kind, deprecatedBuiltinCode=kind, version=2)
            )
            known = [len(codes) - 1]
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=known[0],
                inputs=np.array([source], np.int32),
                outputs=np.array([target], np.int32),
            )
        )

    def finish(self) -> None:
        """Put the operators into the model and drop what is not used any more.

        Names of tensors go too, but those of layers: the exporter's are a tenth of an int8 file.
        """
        self._graph.operators = self.operators
        for index in range(self._named):
            self.tensors[index].name = f"t{index}"
        touched = {
            int(i) for operator in self.operators for i in [*operator.inputs, *operator.outputs]
        }
        touched |= set(map(int, [*self._graph.inputs, *self._graph.outputs]))
        used = {self.tensors[index].buffer for index in touched if index >= 0}
        used |= {entry.buffer for entry in self.model.metadata or []}
        for index, buffer in enumerate(self.model.buffers):
            if index not in used:
                buffer.data = None


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(map(int, tensor.shape))


def affine(scales: NDArray[np.float32], zeros: NDArray[np.int64], axis: int = 0) -> Any:
    """Return quantisation parameters: one scale, or one for each index of an axis."""
    quantization_parameters_t = schema.QuantizationParametersT()
    (
        quantization_parameters_t.scale,
        quantization_parameters_t.zeroPoint,
        quantization_parameters_t.quantizedDimension,
    ) = scales, zeros, axis
    return quantization_parameters_t


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a layer is in the file.

    Attributes:
        name: The layer.
        operator: Its operator.
        weight: float32 ``[out, …]``.
        axis: The axis of the output channels in the file's weight tensor.
        bias: float32 ``[out]``, if it has one; the converter may have added a constant to it.
    """

    name: str
    operator: Any
    weight: NDArray[np.float32]
    axis: int
    bias: NDArray[np.float32] | None


def find_places(graph: TfliteGraph, weights: Mapping[str, NDArray[np.float32]]) -> dict[int, Place]:
    """Find layers in an exported file by their weights.

    Args:
        graph: The file's graph.
        weights: Layer name → weight, in the order the layers run.

    Returns:
        Identity of the operator → its layer.

    Raises:
        ArtifactError: If a layer is not there.
    """
    prints = Fingerprints(weights.items())
    places = {}
    for operator in graph.given:
        axis = _CHANNEL_AXIS.get(graph.kind(operator))
        values = None if axis is None else graph.values(int(operator.inputs[1]))
        name = None if values is None else prints.take(values)
        if name is not None and axis is not None and values is not None:
            places[id(operator)] = Place(
                name=name,
                operator=operator,
                weight=np.moveaxis(values, axis, 0),
                axis=axis,
                bias=graph.values(int(operator.inputs[2])) if len(operator.inputs) > 2 else None,
            )
    if prints.left:
        raise ArtifactError(
            "these layers are not in the exported TFLite file by their weights",
            value=", ".join(prints.left),
            next_step="keep their blocks in float in the recipe",
        )
    return places
