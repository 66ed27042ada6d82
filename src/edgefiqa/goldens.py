"""Golden vectors: photographs with the tensor and the score they must give, everywhere.

Three levels, so that a phone that disagrees knows where: photo → tensor (exact for lossless
files), tensor → score, photo → score. They lie in ``goldens/`` beside the exported files, in
formats that every platform reads: PNG, JPEG, JSON.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from edgefiqa.errors import ArtifactError
from edgefiqa.files import write_text

__all__ = [
    "GOLDENS_DIR",
    "GOLDENS_NAME",
    "GoldenCase",
    "Goldens",
    "allowed_error",
    "read_tensor",
    "tensor_sha256",
]

GOLDENS_DIR = "goldens"
GOLDENS_NAME = "goldens.json"


class GoldenCase(BaseModel):
    """One photograph and what must come of it.

    Attributes:
        name: Short name.
        photo: File in the goldens directory, as a camera or an editor would write it.
        photo_sha256: SHA-256 of that file.
        tensor: PNG in the goldens directory: the preprocessed ``[S, S, 3]`` image, losslessly.
        tensor_sha256: SHA-256 of the tensor's S·S·3 raw bytes, row by row, RGB interleaved.
        tensor_tolerance: Largest allowed difference of a pixel value: 0 for lossless photographs;
            JPEG decoders differ by a few.
        score: The torch model's score of the tensor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    photo: str
    photo_sha256: str
    tensor: str
    tensor_sha256: str
    tensor_tolerance: int
    score: float


class Goldens(BaseModel):
    """All golden cases of an export.

    Attributes:
        size: Input side in pixels.
        parent_sha256: SHA-256 of the weights whose scores these are.
        reference: What computed the scores.
        tolerances: Allowed |score − expected| by precision, see ``allowed_error``.
        cases: The cases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    size: int
    parent_sha256: str
    reference: str
    tolerances: dict[str, float]
    cases: list[GoldenCase]

    def save(self, directory: Path) -> None:
        """Write ``goldens.json`` into the goldens directory."""
        write_text(directory / GOLDENS_NAME, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Goldens":
        """Read a goldens directory.

        Raises:
            ArtifactError: If ``goldens.json`` is missing or not of this layout.
        """
        path = directory / GOLDENS_NAME
        if not path.is_file():
            raise ArtifactError("the golden vectors are missing", value=path)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ArtifactError(
                f"the golden vectors are not valid ({error.errors()[0]['msg']})", value=path
            ) from error


def allowed_error(tolerance: float, expected: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Return the largest allowed |score − expected|: ``tolerance · max(1, |expected|)``.

    Within the usual 0..1 this is the tolerance itself. A model trained on 0..100 rounds a hundred
    times coarser in float32, and may.
    """
    return tolerance * np.maximum(1.0, np.abs(np.asarray(expected, np.float64)))


def tensor_sha256(tensor: NDArray[np.uint8]) -> str:
    """Hash a uint8 tensor's raw bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(tensor).tobytes()).hexdigest()


def read_tensor(path: Path) -> NDArray[np.uint8]:
    """Read a golden tensor: uint8 ``[1, S, S, 3]``."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)[None]
