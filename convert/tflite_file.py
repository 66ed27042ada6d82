"""Reading and writing ``.tflite`` flatbuffers: names, metadata, operator counts."""

from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgefiqa.runtimes.base import METADATA_KEY

__all__ = [
    "INPUT",
    "OUTPUT",
    "SIGNATURE",
    "add_metadata",
    "name_interface",
    "operator_names",
    "pack",
    "unpack",
]

SIGNATURE = "serving_default"
INPUT, OUTPUT = "image", "score"
BUFFER_ALIGNMENT = 16  # the schema's force_align, which the Python builder does not know


class _AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes byte vectors (the weights) at multiples of 16, so that runtimes can map them."""

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        """Write an array, aligned."""
        payload = x.tobytes()
        self.StartVector(x.itemsize, x.size, max(BUFFER_ALIGNMENT, x.dtype.alignment))
        self.head -= len(payload)
        self.Bytes[self.head : self.head + len(payload)] = payload
        self.vectorNumElems = x.size
        offset: int = self.EndVector()
        return offset


def unpack(content: bytes) -> Any:
    """Return a flatbuffer as a ``schema.ModelT``, to be changed.

    Constants that a tool has put behind the flatbuffer are brought into it.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content)))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 mean: inside
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any) -> bytes:
    """Write a ``schema.ModelT``; the same model gives the same bytes."""
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.asarray(buffer.data, dtype=np.uint8)
    builder = _AligningBuilder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def name_interface(model: Any) -> None:
    """Name the one input ``image`` and the one output ``score``, as tensors and in one signature.

    Args:
        model: A ``schema.ModelT`` of one subgraph.
    """
    graph = model.subgraphs[0]
    names = {int(graph.inputs[0]): INPUT, int(graph.outputs[0]): OUTPUT}
    for index, name in names.items():
        graph.tensors[index].name = name
    source, target = (
        [schema.TensorMapT(name=name, tensorIndex=index)] for index, name in names.items()
    )
    model.signatureDefs = [
        schema.SignatureDefT(inputs=source, outputs=target, signatureKey=SIGNATURE)
    ]


def add_metadata(model: Any, text: str) -> None:
    """Put a text into the model's metadata buffer named ``edgefiqa``, in place of an older one."""
    data = np.frombuffer(text.encode(), np.uint8)
    for entry in model.metadata or []:
        if entry.name == METADATA_KEY.encode():
            model.buffers[entry.buffer].data = data
            return
    model.buffers.append(schema.BufferT(data=data))
    entry = schema.MetadataT(name=METADATA_KEY, buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), entry]


def operator_names(model: Any) -> Iterator[str]:
    """Yield the operators of the first subgraph by name, ``CONV_2D`` and so on."""
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Files carry the code in the old one-byte field, the new field, or both.
        yield names[max(code.builtinCode, code.deprecatedBuiltinCode)]
