"""The first thing that runs on a machine reached over ssh: it looks around and unpacks.

Sent as text to ``python3 -c``, with a tar archive on standard input and one JSON object as its
argument: ``modules`` to look for, ``minimum`` Python version, ``folder`` to make a folder in. It
answers with one line of JSON: ``folder`` and the ``missing`` modules, or a ``fault``.

It must run in any Python 3, to be able to say that one is too old.
"""

import importlib.util
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from typing import Any

__all__ = ["main"]


def _free_mb(folder: "str | None") -> "int | None":
    try:
        return shutil.disk_usage(folder or tempfile.gettempdir()).free // 10**6
    except OSError:
        return None


def _unpack(asked: "dict[str, Any]") -> "dict[str, Any]":
    found = {"python": platform.python_version(), "executable": sys.executable}
    if list(sys.version_info[:2]) < asked["minimum"]:
        return dict(found, fault="python")
    missing = [name for name in asked["modules"] if importlib.util.find_spec(name) is None]
    folder = None
    try:
        if asked["folder"]:
            os.makedirs(asked["folder"], exist_ok=True)  # noqa: PTH103
        folder = tempfile.mkdtemp(prefix="edgefiqa-", dir=asked["folder"])
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder, filter="data")
            else:
                archive.extractall(folder)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        place, free = error.filename or folder or asked["folder"], _free_mb(asked["folder"])
        return dict(found, fault="disk", error=error.strerror or str(error), at=place, free_mb=free)
    return dict(found, folder=folder, missing=missing)


def main() -> None:
    """Unpack standard input; print the answer."""
    print(json.dumps(_unpack(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
