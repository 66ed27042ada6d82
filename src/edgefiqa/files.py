"""Files that are whole or absent: hashes and atomic writes."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["put", "sha256_of", "size_of", "staged_path", "write_text"]


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """Hash a file, or a directory such as an ``.mlpackage``.

    A directory's hash is that of its lines ``<sha256 of file>  <relative posix path>``, sorted by
    path, so it does not depend on the file system's order or time stamps.
    """
    if not path.is_dir():
        return _sha256_of_file(path)
    lines = sorted(
        (file.relative_to(path).as_posix(), _sha256_of_file(file))
        for file in path.rglob("*")
        if file.is_file()
    )
    text = "".join(f"{digest}  {name}\n" for name, digest in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a directory."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def put(path: Path, target: Path) -> None:
    """Rename a file or directory, in place of an older one if there is one."""
    if target.is_dir():
        shutil.rmtree(target)  # a directory is not replaced by renaming
    path.replace(target)


@contextmanager
def staged_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes ``target`` if the block succeeds.

    The path keeps the target's suffix, since exporters choose the format by it. If the block
    raises, nothing is left behind and an older ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".staged-", dir=target.parent))
    try:
        path = stage / target.name
        yield path
        put(path, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with staged_path(path) as stage:
        stage.write_text(text, encoding="utf-8")
