"""Whether native libraries load on Android devices with 16 KB memory pages.

Two rules for every 64-bit library: its ELF load segments are aligned to 16 KB, and, where it lies
uncompressed in an APK, so is its place in the file, since it is mapped from there. Google Play
requires both of apps that target Android 15 or later.
"""

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from edgefiqa.errors import ArtifactError

__all__ = ["PAGE_BYTES", "LibraryCheck", "Outcome", "check_file", "elf_fault"]

PAGE_BYTES = 16_384
"""The larger of Android's two page sizes."""

_ELF_MAGIC = b"\x7fELF"
_CLASS_64, _LITTLE_ENDIAN = 2, 1
_PT_LOAD = 1
_HEADER, _SEGMENT = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ARCHIVES = (".apk", ".aar", ".aab", ".apks", ".zip")


class Outcome(StrEnum):
    """Outcome of one library's check."""

    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class LibraryCheck:
    """One library.

    Attributes:
        library: Its path, inside the archive if there is one.
        outcome: The outcome.
        detail: The fault, or the figures.
    """

    library: str
    outcome: Outcome
    detail: str


def _segments(content: bytes) -> list[tuple[int, int, int]]:
    """Return offset, virtual address and alignment of each load segment."""
    header = _HEADER.unpack_from(content)
    table, size, count = header[5], header[9], header[10]
    found = []
    for index in range(count):
        kind, _, offset, address, *_, align = _SEGMENT.unpack_from(content, table + index * size)
        if kind == _PT_LOAD:
            found.append((offset, address, align))
    return found


def elf_fault(content: bytes) -> str:
    """Return why a 64-bit ELF library cannot be loaded with 16 KB pages, or an empty text."""
    try:
        segments = _segments(content)
    except struct.error:
        return "the ELF file is cut off"
    if not segments:
        return "the ELF file has no load segment"
    for number, (offset, address, align) in enumerate(segments):
        if align < PAGE_BYTES or align & (align - 1):
            return f"load segment {number} is aligned to {align:,} bytes, {PAGE_BYTES:,} are needed"
        if (address - offset) % PAGE_BYTES:
            return f"load segment {number}: address {address:#x} does not fit offset {offset:#x}"
    return ""


def _check_elf(name: str, content: bytes, place: str, place_fault: str) -> LibraryCheck:
    """Check one library whose place in an archive is described by ``place``."""
    if content[:4] != _ELF_MAGIC:
        return LibraryCheck(library=name, outcome=Outcome.FAILED, detail="this is no ELF file")
    if content[4:6] != bytes((_CLASS_64, _LITTLE_ENDIAN)):
        detail = "32-bit: devices with 16 KB pages do not load it"
        return LibraryCheck(library=name, outcome=Outcome.NOT_CHECKED, detail=detail)
    fault = elf_fault(content) or place_fault
    outcome = Outcome.FAILED if fault else Outcome.OK
    return LibraryCheck(library=name, outcome=outcome, detail=fault or f"segments aligned, {place}")


def _data_offset(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Return where an entry's data begin, by its local header's lengths."""
    file.seek(entry.header_offset)
    name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))[-2:]
    return entry.header_offset + _LOCAL_HEADER.size + int(name_bytes) + int(extra_bytes)


def _check_entry(
    archive: zipfile.ZipFile, file: IO[bytes], entry: zipfile.ZipInfo, *, mapped: bool
) -> LibraryCheck:
    place, fault = "not mapped from here", ""
    if mapped and entry.compress_type == zipfile.ZIP_STORED:
        offset = _data_offset(file, entry)
        place = f"stored at a multiple of {PAGE_BYTES:,}"
        if offset % PAGE_BYTES:
            fault = (
                f"it is stored at {offset:,}, not a multiple of {PAGE_BYTES:,}: run zipalign -P 16"
            )
    elif mapped:
        place = "compressed, so it is unpacked at installation"
    return _check_elf(entry.filename, archive.read(entry), place, fault)


def _check_archive(path: Path) -> Iterator[LibraryCheck]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".so"):
                    mapped = path.suffix.lower() == ".apk"
                    yield _check_entry(archive, file, entry, mapped=mapped)
    except (zipfile.BadZipFile, struct.error, OSError) as error:
        raise ArtifactError(
            f"the archive cannot be read ({error})", value=path, next_step="build it again"
        ) from error


def check_file(path: Path) -> list[LibraryCheck]:
    """Check every native library in an APK, AAR or AAB, or one library.

    Args:
        path: The file.

    Returns:
        One check a library, in the archive's order; empty if it holds none.

    Raises:
        ArtifactError: If the file is missing, unreadable or neither an archive nor a library.
    """
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        return list(_check_archive(path))
    if suffix == ".so":
        try:
            return [_check_elf(path.name, path.read_bytes(), "a single file", "")]
        except OSError as error:
            raise ArtifactError("the library cannot be read", value=path) from error
    raise ArtifactError(
        "this is neither an Android archive nor a library",
        value=path,
        allowed=", ".join((*_ARCHIVES, ".so")),
    )
