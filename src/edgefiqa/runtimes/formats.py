"""Telling scorer files apart by what is in them, not by what they are called."""

from enum import StrEnum
from pathlib import Path

from edgefiqa.errors import ArtifactError

__all__ = ["SUFFIXES", "Format", "detect_format"]


class Format(StrEnum):
    """A kind of scorer file."""

    TORCH = "torch"
    ONNX = "onnx"
    TFLITE = "tflite"
    EXECUTORCH = "executorch"
    COREML = "coreml"


SUFFIXES = {
    ".safetensors": Format.TORCH,
    ".onnx": Format.ONNX,
    ".tflite": Format.TFLITE,
    ".pte": Format.EXECUTORCH,
    ".mlpackage": Format.COREML,
}
_HEAD_BYTES = 16
_PROTOBUF_FIRST_FIELD = b"\x08"  # ONNX: ir_version, a varint in field 1


def _sniff_directory(path: Path) -> Format | None:
    if (path / "model.safetensors").is_file():
        return Format.TORCH
    if (path / "Manifest.json").is_file() and (path / "Data").is_dir():
        return Format.COREML
    return None


def _sniff_file(head: bytes) -> Format | None:
    if head[4:8] == b"TFL3":
        return Format.TFLITE
    if head[4:6] == b"ET":
        return Format.EXECUTORCH
    if head[8:9] == b"{":
        return Format.TORCH
    if head[:1] == _PROTOBUF_FIRST_FIELD:
        return Format.ONNX
    return None


def detect_format(path: Path) -> Format:
    """Return the format of a scorer file or directory.

    Raises:
        ArtifactError: If it does not exist, is empty, is of no known format, or its name says
            another format than its content.
    """
    allowed = ", ".join(SUFFIXES)
    if not path.exists():
        raise ArtifactError("no such model", value=path, allowed=f"'default' or {allowed}")
    if path.is_dir():
        found = _sniff_directory(path)
    else:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if not head:
            raise ArtifactError("the model file is empty", value=path, next_step="export it again")
        found = _sniff_file(head)
    named = SUFFIXES.get(path.suffix.lower())
    if found is None or (named is None and path.is_file()):
        raise ArtifactError(
            "this is no model that edgefiqa can run",
            value=path,
            allowed=f"a model directory, or {allowed}",
            next_step="edgefiqa convert makes one; edgefiqa import reads published checkpoints",
        )
    if named is not None and named is not found:
        raise ArtifactError(
            f"the file is named as {named.value} but its content is {found.value}",
            value=path,
            next_step=f"give it the ending {_suffix_of(found)}",
        )
    return found


def _suffix_of(format_: Format) -> str:
    return next(suffix for suffix, value in SUFFIXES.items() if value is format_)
