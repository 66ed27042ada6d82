"""Running a scorer file: one module a runtime, each imported only when it is used.

``load(path)`` finds the file's format by its content, takes that format's runtime and returns a
:class:`Scorer`. Nothing here imports torch or tensorflow unless the file needs it.
"""

from edgefiqa.runtimes.base import Scorer, check_images
from edgefiqa.runtimes.formats import Format, detect_format
from edgefiqa.runtimes.table import (
    RUNTIMES,
    RuntimeRow,
    load,
    load_stand_in,
    read_metadata,
    runtime_for,
    runtime_of,
)

__all__ = [
    "RUNTIMES",
    "Format",
    "RuntimeRow",
    "Scorer",
    "check_images",
    "detect_format",
    "load",
    "load_stand_in",
    "read_metadata",
    "runtime_for",
    "runtime_of",
]
