"""Keras on TensorFlow, loaded when the first twin is built: it takes seconds and much memory."""

import os
import warnings
from functools import cache
from types import ModuleType

from edgefiqa.errors import MissingExtraError
from edgefiqa.runtimes.imports import import_tensorflow

__all__ = ["load_keras", "load_tensorflow"]


@cache
def load_tensorflow() -> ModuleType:
    """Import TensorFlow.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return import_tensorflow()
    except ImportError as error:
        raise MissingExtraError("tensorflow", "convert") from error


@cache
def load_keras() -> ModuleType:
    """Import Keras with TensorFlow as its backend.

    Raises:
        MissingExtraError: If either is not installed.
    """
    load_tensorflow()
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the twin's layers call TensorFlow themselves
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside Keras's modules
        try:
            import keras
        except ImportError as error:
            raise MissingExtraError("keras", "convert") from error
    module: ModuleType = keras
    return module
