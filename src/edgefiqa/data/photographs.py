"""The photographs that a corpus is made of: face boxes and pixels."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgefiqa.errors import DataError, ImageError

__all__ = ["Face", "load_rgb", "read_faces"]


@dataclass(frozen=True, kw_only=True)
class Face:
    """One row of ``faces.csv``: a photograph and the face box in it, in pixels."""

    name: str
    x: int
    y: int
    width: int
    height: int


def read_faces(path: Path) -> list[Face]:
    """Read ``faces.csv`` (columns name, face_x, face_y, face_w, face_h).

    Args:
        path: The file.

    Returns:
        One entry a photograph, in the file's order.

    Raises:
        DataError: The file is missing, empty or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        faces = [
            Face(
                name=row["name"],
                x=int(row["face_x"]),
                y=int(row["face_y"]),
                width=int(row["face_w"]),
                height=int(row["face_h"]),
            )
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as fault:
        columns = "CSV with the columns name, face_x, face_y, face_w, face_h"
        raise DataError(f"cannot read face boxes ({fault})", value=path, allowed=columns) from fault
    if not faces:
        raise DataError("no face boxes", value=path, allowed="one row or more")
    return faces


def load_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a photograph, upright.

    Args:
        path: The file.

    Returns:
        uint8 RGB, HWC.

    Raises:
        ImageError: The file is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    # Pillow's decoders raise SyntaxError and ValueError too.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        next_step = "mend or remove it, and its row in the CSV of face boxes"
        raise ImageError(
            f"the photo cannot be read ({fault})", value=path, next_step=next_step
        ) from fault
