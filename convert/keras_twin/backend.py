"""TensorFlow and Keras, imported in one place, quietly and with one thread per operation.

Nothing else in edgefiqa imports them, and this module is imported only when a twin is built:
TensorFlow takes seconds and hundreds of megabytes to load.
"""

import os
import warnings
from functools import cache
from types import ModuleType

# Imported before TensorFlow: the other order crashed the process once coremltools came in too.
import timm as _timm  # noqa: F401
import torchvision as _torchvision  # noqa: F401

from edgefiqa.errors import MissingExtraError

__all__ = ["load_keras", "load_tensorflow"]

# Read by TensorFlow's C++ side when it is loaded. oneDNN is off since it rounds differently from
# one machine to the next; the twin only runs there to be checked.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
}


@cache
def load_tensorflow() -> ModuleType:
    """Import TensorFlow.

    Raises:
        MissingExtraError: If it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside TensorFlow's own modules
        try:
            import tensorflow
        except ImportError as error:
            raise MissingExtraError("tensorflow", "convert") from error
        _ = tensorflow.lite.TFLiteConverter  # loaded lazily, with warnings of its own
    module: ModuleType = tensorflow
    return module


@cache
def load_keras() -> ModuleType:
    """Import Keras with TensorFlow as its backend.

    Raises:
        MissingExtraError: If either is not installed.
    """
    load_tensorflow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import keras
        except ImportError as error:
            raise MissingExtraError("keras", "convert") from error
    module: ModuleType = keras
    return module
