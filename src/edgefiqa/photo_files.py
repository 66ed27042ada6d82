"""Which photographs a user means: files, folders and patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgefiqa.errors import UsageError

__all__ = ["IMAGE_SUFFIXES", "find_photos"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs"}
    | {".gif", ".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
    | {".jp2", ".j2k", ".jpx", ".heic", ".heif", ".hif"}
)
"""Endings, in lower case, that folders are searched for. HEIC is among them although Pillow cannot
read it: a folder of phone photos must report such files, not skip them."""


def find_photos(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Expand files, folders and glob patterns to photos, in the order given, without repeats.

    A folder stands for every file below it whose suffix is in ``IMAGE_SUFFIXES``, sorted; names
    that begin with a dot and linked folders are left out. A pattern (``*``, ``?``, ``[``, ``**``)
    stands for the photos and folders it matches. Any other path is kept as it is, existing or not
    and whatever its suffix, so that a wrong file becomes an error and is not skipped in silence.

    Args:
        paths: What the user named.

    Returns:
        The photos, not opened yet.

    Raises:
        UsageError: If nothing is named, a folder cannot be listed, or a folder or pattern holds no
            photo.
    """
    if not paths:
        what = "no photo is named"
        raise UsageError(what, allowed="files, folders or patterns such as 'faces/*.jpg'")
    found = dict.fromkeys(photo for path in paths for photo in _expand(os.fspath(path)))
    return list(found)


def _expand(text: str) -> Iterator[Path]:
    if not text:
        what = "an empty path is named"
        raise UsageError(what, allowed="a file, a folder or a pattern", next_step="use . for here")
    if Path(text).is_dir():
        photos, kind = _photos_below(Path(text)), "folder"
    elif glob.has_magic(text) and not os.path.lexists(text):
        photos, kind = _photos_matching(text), "pattern"
    else:
        photos, kind = [Path(text)], "file"
    if not photos:
        what = f"no photo in this {kind}"
        allowed = f"files ending in {' '.join(sorted(IMAGE_SUFFIXES))}"
        raise UsageError(what, value=text, allowed=allowed, next_step="check the path")
    yield from photos


def _photos_below(folder: Path) -> list[Path]:
    photos: list[Path] = []
    for root, folders, files in os.walk(folder, onerror=_refuse_listing):
        folders[:] = [name for name in folders if not name.startswith(".")]
        photos += [Path(root, name) for name in files if _is_photo_name(name)]
    return sorted(photos, key=lambda path: path.parts)


def _photos_matching(pattern: str) -> list[Path]:
    photos: list[Path] = []
    # Path.glob takes neither absolute patterns nor names that begin with **.
    for match in sorted(map(Path, glob.glob(pattern, recursive=True)), key=lambda p: p.parts):  # noqa: PTH207
        if match.is_dir():
            photos += _photos_below(match)
        elif _is_photo_name(match.name):
            photos.append(match)
    return photos


def _is_photo_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _refuse_listing(error: OSError) -> None:
    what = f"the folder cannot be listed ({error.strerror})"
    raise UsageError(what, value=error.filename, next_step="check its permissions") from error
