"""What is sent to a remote machine: the files, the photographs, and the runner.

The runner is the very code that measures on this machine (``latency_process``, ``host_facts``) with
what it imports: the standard library, numpy, Pillow and the runtime itself. Nothing of edgefiqa
needs to be installed there.
"""

import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import edgefiqa
from edgefiqa.measuring.cells import Cell

__all__ = ["MINIMUM_PYTHON", "RUNNER", "remote_paths", "write_bundle"]

MINIMUM_PYTHON = (3, 11)
"""Oldest Python of a remote machine: the oldest that edgefiqa supports."""

RUNNER = "runner"
"""Folder of the bundle that goes on Python's path."""

_PACKAGE = Path(edgefiqa.__file__).parent
_MODULES = (
    "__init__.py",
    "errors.py",
    "files.py",
    "lazy.py",
    "preprocess.py",
    "registry.py",
    "runtimes/*.py",
    "benchmarks/__init__.py",
    "benchmarks/latency/__init__.py",
    "measuring/host_facts.py",
    "benchmarks/latency/process.py",
    "measuring/__init__.py",
    "measuring/machine.py",
    "workers.py",
)


def remote_paths(cells: Sequence[Cell], photos: Sequence[Path]) -> dict[Path, PurePosixPath]:
    """Return where each file lies in the bundle, by its resolved path here.

    Each has a separate folder, so that equal names do not meet.
    """
    files = dict.fromkeys([cell.path.resolve() for cell in cells])
    pictures = dict.fromkeys([photo.resolve() for photo in photos])
    paths = {path: PurePosixPath(f"files/{n}/{path.name}") for n, path in enumerate(files)}
    return paths | {
        path: PurePosixPath(f"photos/{n}/{path.name}") for n, path in enumerate(pictures)
    }


def write_bundle(stream: IO[bytes], paths: dict[Path, PurePosixPath]) -> None:
    """Write the runner and the files as a tar archive, piece by piece.

    Args:
        stream: Takes the archive.
        paths: What `remote_paths` returned.
    """

    def anyones(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=stream, mode="w|") as archive:
        for pattern in _MODULES:
            for path in sorted(_PACKAGE.glob(pattern)):
                name = f"{RUNNER}/edgefiqa/{path.relative_to(_PACKAGE).as_posix()}"
                archive.add(path.resolve(), name, filter=anyones)
        for path, place in paths.items():
            archive.add(path, str(place), filter=anyones)
