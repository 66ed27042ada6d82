"""16 KB pages: crafted libraries and archives."""

import struct
import zipfile
from pathlib import Path

import pytest

from edgefiqa.errors import ArtifactError
from edgefiqa.page_alignment import PAGE_BYTES, Outcome, check_file, elf_fault


def elf(*segments: tuple[int, int, int], bits: int = 64) -> bytes:
    """An ELF file with load segments of (offset, address, alignment)."""
    ident = b"\x7fELF" + bytes((bits // 32, 1, 1)) + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 3, 183, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    table = [struct.pack("<IIQQQQQQ", 1, 5, o, a, a, 64, 64, align) for o, a, align in segments]
    return header + b"".join(table)


GOOD = elf((0, 0, 0x4000), (0x1000, 0x5000, 0x4000))


def apk(path: Path, content: bytes, *, stored: bool, offset: int) -> Path:
    """An archive whose one library's data begin at ``offset``, as zipalign pads: by the extra."""
    name = "lib/arm64-v8a/libx.so"
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    entry.extra = b"\xff\xff" + struct.pack("<H", padding := offset - 30 - len(name) - 4)
    entry.extra += bytes(padding)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, content)
    return path


def outcomes(path: Path) -> list[Outcome]:
    return [check.outcome for check in check_file(path)]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (GOOD, ""),
        (elf((0, 0, 0x10000)), ""),
        (elf((0, 0, 0x1000)), "aligned to 4,096"),
        (elf((0, 0, 0x4000), (0x1000, 0x3000, 0x1000)), "segment 1"),
        (elf((0, 0, 0x6000)), "aligned to 24,576"),
        (elf((0x1000, 0x2000, 0x4000)), "does not fit"),
        (elf(), "no load segment"),
        (GOOD[:70], "cut off"),
        (GOOD[:20], "cut off"),
    ],
)
def test_segments(content: bytes, fault: str):
    found = elf_fault(content)
    assert (fault in found) if fault else found == ""


def test_a_stored_library_must_lie_at_a_page(tmp_path: Path):
    good = apk(tmp_path / "good.apk", GOOD, stored=True, offset=PAGE_BYTES)
    assert outcomes(good) == [Outcome.OK]
    bad = apk(tmp_path / "bad.apk", GOOD, stored=True, offset=4096)
    (check,) = check_file(bad)
    assert check.outcome is Outcome.FAILED
    assert "zipalign" in check.detail


def test_a_compressed_library_may_lie_anywhere(tmp_path: Path):
    path = apk(tmp_path / "app.apk", GOOD, stored=False, offset=100)
    assert outcomes(path) == [Outcome.OK]


def test_a_library_archive_is_not_mapped(tmp_path: Path):
    path = apk(tmp_path / "runtime.aar", GOOD, stored=True, offset=100)
    assert outcomes(path) == [Outcome.OK]


def test_32_bit_libraries_are_not_passed_over(tmp_path: Path):
    path = apk(tmp_path / "a.apk", elf((0, 0, 0x1000), bits=32), stored=True, offset=100)
    assert outcomes(path) == [Outcome.NOT_CHECKED]


def test_what_is_no_library_fails(tmp_path: Path):
    path = apk(tmp_path / "a.apk", b"text", stored=True, offset=PAGE_BYTES)
    assert outcomes(path) == [Outcome.FAILED]


def test_single_libraries_and_wrong_files(tmp_path: Path):
    library = tmp_path / "libx.so"
    library.write_bytes(GOOD)
    assert outcomes(library) == [Outcome.OK]
    (tmp_path / "cut.apk").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "notes.txt").write_text("x")
    for name in ("cut.apk", "absent.apk", "absent.so", "notes.txt"):
        with pytest.raises(ArtifactError):
            check_file(tmp_path / name)
