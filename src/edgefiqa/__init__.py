"""edgefiqa: from labelled face photographs to a face quality scorer on a phone.

The names of ``__all__`` are the public Python API. Each is imported when it is first used, so that
``import edgefiqa`` loads neither numpy nor a runtime::

    import edgefiqa

    scorer = edgefiqa.load("student.tflite")
    scorer.score("photo.jpg")
"""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.api import PhotoScore, PhotoScorer, convert, load, measure_drift, quantize
    from edgefiqa.errors import EdgeFiqaError
    from edgefiqa.photo_files import find_photos

__all__ = [
    "EdgeFiqaError",
    "PhotoScore",
    "PhotoScorer",
    "__version__",
    "convert",
    "find_photos",
    "load",
    "measure_drift",
    "quantize",
]

# Here, since it must be set before anything imports onnxruntime: no telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    __version__ = version("edgefiqa")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0+source"

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
