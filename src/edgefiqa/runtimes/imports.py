"""Importing the libraries that crash, warn or chatter when they are imported carelessly.

Triton's library (a part of torch's CUDA build) crashes the process when it is loaded after
TensorFlow's. So whatever imports TensorFlow imports Triton first. coremltools imports every
framework it finds, to convert from it: it alone would do both, in the wrong order. It is kept from
those that edgefiqa never converts from through it, which also cost half a gigabyte and most of the
time. This module is the only place that imports TensorFlow or coremltools.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

__all__ = ["import_coremltools", "import_tensorflow"]

# TensorFlow reads these when its library is loaded. oneDNN is off because it rounds differently
# from one processor to the next.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}

# ExecuTorch's delegate calls coremltools, and then imports itself; coremltools need not.
_UNUSED_BY_COREMLTOOLS = ("tensorflow", "sklearn", "executorch")


@contextmanager
def _carefully() -> Iterator[None]:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the libraries' modules
        yield


@contextmanager
def _without(packages: Iterable[str]) -> Iterator[None]:
    """Let packages that are not imported yet appear as not installed."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: import fails
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


def import_tensorflow() -> ModuleType:
    """Import TensorFlow, quietly.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    with _carefully():
        with suppress(ImportError):
            import triton  # noqa: F401
        import tensorflow as tf

        _ = tf.lite  # loaded lazily, with its warnings
    module: ModuleType = tf
    return module


def import_coremltools() -> ModuleType:
    """Import coremltools, quietly.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    for name in ("coremltools", "torch.utils._pytree"):  # the latter complains about torchao
        logging.getLogger(name).setLevel(logging.ERROR)
    # torchao would load Triton, which may be too late.
    unwanted = (*_UNUSED_BY_COREMLTOOLS, *(["triton"] if "tensorflow" in sys.modules else []))
    with _carefully(), _without(unwanted):
        import coremltools as ct
    module: ModuleType = ct
    return module
