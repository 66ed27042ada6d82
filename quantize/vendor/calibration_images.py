"""Calibration photographs as the vendors' tools take them: one at a time, from a mapped file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import DataError
from edgefiqa.runtimes import check_images

__all__ = ["open_calibration", "single_images"]

_NEXT_STEP = "write uint8 images [n, S, S, 3] with numpy.save"


def open_calibration(path: Path, size: int) -> NDArray[np.uint8]:
    """Map the calibration photographs.

    Args:
        path: A ``.npy`` file.
        size: Their side S in pixels.

    Returns:
        uint8 ``[n, S, S, 3]``, n at least 1, mapped and read only.

    Raises:
        DataError: If there is no such file, it is no array, or it holds no image.
        UsageError: If the array is of another type or shape.
    """
    try:
        images: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"the calibration photographs cannot be read ({type(error).__name__})",
            value=path,
            next_step=_NEXT_STEP,
        ) from error
    check_images(images, size)
    if not len(images):
        raise DataError(
            "the calibration set is empty",
            value=path,
            allowed="one photograph or more",
            next_step="a hundred photographs of the kind that will be scored are usual",
        )
    return images


def single_images(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield each image as a batch of one, uint8 ``[1, S, S, 3]``, copied into memory."""
    for image in images:
        yield np.array(image[None])
