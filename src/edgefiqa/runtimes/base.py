"""What every runtime offers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import ArtifactError, UsageError

__all__ = ["METADATA_KEY", "Scorer", "check_images", "check_signature", "damaged"]

METADATA_KEY = "edgefiqa"
"""Name under which every format carries our metadata, as one JSON object."""


class Scorer(Protocol):
    """A loaded scorer file.

    Attributes:
        runtime: The library that runs it, with its version ("litert 2.3.0").
        size: Side of the square input, in pixels.
    """

    runtime: str
    size: int

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score images.

        Args:
            images: uint8 ``[n, S, S, 3]``, RGB, 0..255, as ``edgefiqa.preprocess`` makes them.

        Returns:
            float32 ``[n]``, higher is better.

        Raises:
            UsageError: If the array is not of that type and shape.
        """
        ...


def check_images(images: NDArray[Any], size: int) -> None:
    """Refuse an array that does not follow the scorer contract.

    Raises:
        UsageError: If it is not uint8 ``[n, size, size, 3]``.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise UsageError(
            "images of the wrong type or shape",
            value=f"{images.dtype} {list(images.shape)}",
            allowed=f"uint8 [n, {size}, {size}, 3]",
            next_step="edgefiqa.preprocess.load_tensor(photo, size) makes them",
        )


def check_signature(
    path: Path, *, shape: Sequence[object], dtype: object, outputs: int, output_dtype: object
) -> int:
    """Check a file's input and output against the scorer contract.

    Args:
        path: The file, for the message.
        shape: Shape of its only input.
        dtype: Type of that input, as numpy knows it.
        outputs: Number of its outputs.
        output_dtype: Type of the first output.

    Returns:
        The input side in pixels.

    Raises:
        ArtifactError: If the file is not a scorer of this contract.
    """
    fits = len(shape) == 4 and shape[0] == 1 and shape[1] == shape[2] and shape[3] == 3
    side = shape[1] if len(shape) == 4 else None
    if (
        not fits
        or not isinstance(side, int)
        or np.dtype(dtype) != np.uint8  # type: ignore[call-overload]
        or outputs != 1
        or np.dtype(output_dtype) != np.float32  # type: ignore[call-overload]
    ):
        raise ArtifactError(
            f"not an edgefiqa scorer: it takes {np.dtype(dtype)} {list(shape)} and has "  # type: ignore[call-overload]
            f"{outputs} output(s) of {np.dtype(output_dtype)}",  # type: ignore[call-overload]
            value=path,
            allowed="one uint8 input [1, S, S, 3], one float32 output",
            next_step="export the model with edgefiqa convert",
        )
    return side


def damaged(path: Path, runtime: str, error: BaseException) -> ArtifactError:
    """Build the error for a file its runtime refuses, with the runtime's first line of reason."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
    return ArtifactError(
        f"{runtime} cannot load this file ({reason[:200]})",
        value=path,
        next_step="export it again, or run edgefiqa verify on its directory",
    )
