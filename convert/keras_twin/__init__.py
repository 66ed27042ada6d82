"""A Keras twin of the torch model, and the ``.tflite`` made from it (``convert --to tflite-tf``).

The twin is built from the prepared torch module, so the exact folds are defined once, in
``edgefiqa.convert.prepare``; here they are only written down in channels-last operations that
TensorFlow's converter keeps as they are. TensorFlow is imported when the first twin is built.
"""

from edgefiqa.convert.keras_twin.check import LAYER_TOLERANCE, LayerDifference, check_twin
from edgefiqa.convert.keras_twin.tflite import convert_twin
from edgefiqa.convert.keras_twin.twin import SUPPORTED, TwinModel, build_twin

__all__ = [
    "LAYER_TOLERANCE",
    "SUPPORTED",
    "LayerDifference",
    "TwinModel",
    "build_twin",
    "check_twin",
    "convert_twin",
]
