"""Importing the libraries that crash, warn or chatter when they are imported carelessly.

Triton's library (a part of torch's CUDA build) crashes the process when it is loaded after
TensorFlow's. coremltools alone does that: it imports both where both are installed. So whatever
imports TensorFlow imports Triton first; this module is the only place that imports either.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

__all__ = ["import_coremltools", "import_tensorflow"]

# TensorFlow reads these when its library is loaded. oneDNN is off because it rounds differently
# from one processor to the next.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


@contextmanager
def _carefully() -> Iterator[None]:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the libraries' own modules
        with suppress(ImportError):
            import triton  # noqa: F401
        yield


def import_tensorflow() -> ModuleType:
    """Import TensorFlow, quietly.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    with _carefully():
        import tensorflow as tf

        _ = tf.lite  # loaded lazily, with warnings of its own
    module: ModuleType = tf
    return module


def import_coremltools() -> ModuleType:
    """Import coremltools, quietly.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with _carefully():
        import coremltools as ct
    module: ModuleType = ct
    return module
