"""The photographs that a corpus is made of: face boxes and near duplicates."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgefiqa.errors import DataError

__all__ = ["Face", "cluster_photos", "load_rgb", "read_faces"]


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
    """
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _difference_hash(path: Path) -> NDArray[np.uint8]:
    """Return 256 bits: is each cell of a 17×16 thumbnail brighter than its right neighbour?"""
    grey = Image.fromarray(load_rgb(path)).convert("L").resize((17, 16), Image.Resampling.LANCZOS)
    cells = np.asarray(grey)
    return (cells[:, 1:] > cells[:, :-1]).ravel().astype(np.uint8)


def cluster_photos(paths: Sequence[Path], *, duplicate_bits: int) -> NDArray[np.int64]:
    """Group near duplicates, so that no group is split between training and held-back photos.

    Args:
        paths: The photographs.
        duplicate_bits: Photos whose 256-bit difference hashes (also against the mirrored photo)
            differ in at most this many bits are linked; links are transitive.

    Returns:
        One cluster number a photo: the index of its first member.
    """
    hashes = np.stack([_difference_hash(path) for path in paths]).astype(np.int32)
    # A mirror image reverses each row of comparisons and their direction.
    mirrored = 1 - hashes.reshape(-1, 16, 16)[:, :, ::-1].reshape(len(paths), -1)
    parent = np.arange(len(paths))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    for other in (hashes, mirrored):
        distances = hashes @ (1 - other).T + (1 - hashes) @ other.T
        for a, b in np.argwhere(distances <= duplicate_bits):
            low, high = sorted((root(int(a)), root(int(b))))
            parent[high] = low
    return np.array([root(index) for index in range(len(paths))], dtype=np.int64)
