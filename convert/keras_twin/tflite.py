"""The twin as a ``.tflite`` file that keeps the scorer contract's names."""

import warnings
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from edgefiqa.convert.keras_twin.backend import load_tensorflow
from edgefiqa.convert.keras_twin.twin import TwinModel

__all__ = ["convert_twin", "name_interface"]

SIGNATURE = "serving_default"
INPUT, OUTPUT = "image", "score"
BUFFER_ALIGNMENT = 16  # the schema's force_align, which the Python builder does not know


def convert_twin(twin: TwinModel) -> bytes:
    """Convert a twin with TensorFlow's converter, in float32.

    Returns:
        A TFLite model: uint8 ``image`` ``[1, S, S, 3]`` → float32 ``score`` ``[1]``, under one
        signature, ``serving_default``. The same twin gives the same bytes.
    """
    tf = load_tensorflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the converter
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        specification = tf.TensorSpec((1, twin.size, twin.size, 3), tf.uint8, name=INPUT)
        concrete = tf.function(twin.model).get_concrete_function(specification)
        # Frozen here: with variables in the graph the converter writes resource reads, on which
        # the weights are no constants to XNNPACK.
        frozen = convert_variables_to_constants_v2(concrete)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], twin.model)
        content: bytes = converter.convert()
    return name_interface(content)


class _AligningBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes byte vectors (the weights) at multiples of 16."""

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        """Write an array, aligned."""
        payload = x.tobytes()
        self.StartVector(x.itemsize, x.size, max(BUFFER_ALIGNMENT, x.dtype.alignment))
        self.head -= len(payload)
        self.Bytes[self.head : self.head + len(payload)] = payload
        self.vectorNumElems = x.size
        offset: int = self.EndVector()
        return offset


def name_interface(content: bytes) -> bytes:
    """Name a model's one input ``image`` and its one output ``score``, tensors and signature.

    Args:
        content: A TFLite model of one subgraph.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content)))
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT(name=INPUT, tensorIndex=int(graph.inputs[0]))],
        outputs=[schema.TensorMapT(name=OUTPUT, tensorIndex=int(graph.outputs[0]))],
        signatureKey=SIGNATURE,
    )
    graph.tensors[int(graph.inputs[0])].name = INPUT
    graph.tensors[int(graph.outputs[0])].name = OUTPUT
    model.signatureDefs = [signature]
    for buffer in model.buffers:
        if buffer.data is not None:
            buffer.data = np.asarray(buffer.data, dtype=np.uint8)
    builder = _AligningBuilder(len(content) + 65536)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
