"""The twin as a ``.tflite`` file that keeps the scorer contract's names."""

import warnings

from edgefiqa.convert.keras_twin.backend import load_tensorflow
from edgefiqa.convert.keras_twin.twin import TwinModel
from edgefiqa.convert.tflite_file import INPUT, name_interface, pack, unpack

__all__ = ["convert_twin"]


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
    model = unpack(content)
    name_interface(model)
    return pack(model)
