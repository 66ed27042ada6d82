"""Core ML packages in the reference evaluator of ML Programs, on any operating system.

Importing this module needs neither torch nor coremltools: reading a package's metadata must not.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.errors import ArtifactError
from edgefiqa.runtimes.base import check_images
from edgefiqa.runtimes.coreml import read_metadata

__all__ = ["MilReferenceScorer", "read_metadata"]


class MilReferenceScorer:
    """A scorer in the reference evaluator, fed with RGB images of S×S.

    Raises:
        ArtifactError: If the package is damaged, or no scorer.
        UnsupportedOp: If the program has an op the evaluator does not know.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        import torch

        from edgefiqa.runtimes.mil import MilModel

        torch.set_num_threads(threads)
        self._model = MilModel.load(path)
        self.runtime = self._model.runtime
        inputs, outputs = self._model.inputs, self._model.outputs
        sides = set(inputs[0].size) if len(inputs) == 1 and inputs[0].image == "RGB" else set()
        if len(sides) != 1 or [output.name for output in outputs] != ["score"]:
            raise ArtifactError(
                "not an edgefiqa scorer",
                value=path,
                allowed="one image input, RGB, S×S, and the output 'score'",
                next_step="export the model with edgefiqa convert",
            )
        self._input, (self.size,) = inputs[0].name, sides

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        for index, image in enumerate(images):
            outputs = self._model.predict({self._input: Image.fromarray(image)})
            scores[index] = np.asarray(outputs["score"]).reshape(-1)[0]
        return scores
