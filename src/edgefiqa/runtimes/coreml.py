"""Core ML packages in Core ML, which exists on macOS only."""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.errors import ArtifactError, PlatformError
from edgefiqa.runtimes.base import METADATA_KEY, check_images, damaged
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["CoreMlScorer", "read_metadata"]


def _load_spec(path: Path) -> Any:
    ct = import_coremltools()

    try:
        return ct.utils.load_spec(str(path))
    except Exception as error:  # protobuf's DecodeError, FileNotFoundError, plain Exception
        raise damaged(path, "coremltools", error) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object under ``edgefiqa`` in the user-defined metadata; works anywhere."""
    found = _load_spec(path).description.metadata.userDefined.get(METADATA_KEY, "{}")
    content: dict[str, Any] = json.loads(found)
    return content


class CoreMlScorer:
    """A scorer in Core ML, fed with RGB images of S×S."""

    def __init__(self, path: Path, *, threads: int) -> None:
        if platform.system() != "Darwin":
            raise PlatformError(
                "Core ML runs on macOS only",
                value=path,
                next_step="the runtime mil-reference evaluates the same file here",
            )
        ct = import_coremltools()
        self.runtime = f"Core ML (macOS {platform.mac_ver()[0]}, coremltools {ct.__version__})"
        inputs = _load_spec(path).description.input
        if len(inputs) != 1 or inputs[0].type.WhichOneof("Type") != "imageType":
            raise ArtifactError(
                "not an edgefiqa scorer", value=path, allowed="one image input, RGB, S×S"
            )
        self._input, self.size = inputs[0].name, int(inputs[0].type.imageType.width)
        # Core ML chooses its threads; CPU_ONLY is what can be repeated.
        self._model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit.CPU_ONLY)

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        for index, image in enumerate(images):
            outputs = self._model.predict({self._input: Image.fromarray(image)})
            scores[index] = np.asarray(outputs["score"]).reshape(-1)[0]
        return scores
