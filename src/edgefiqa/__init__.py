"""edgefiqa: from labelled face photographs to a face quality scorer on a phone."""

import os
from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

# Here, since it must be set before anything imports onnxruntime: no telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    __version__ = version("edgefiqa")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0+source"
