"""The network as the export rewrites it, still in torch: what graph rewriting alone does."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgefiqa.convert import prepare_scorer
from edgefiqa.models import load_model
from edgefiqa.runtimes import check_images

__all__ = ["RewrittenScorer"]


class RewrittenScorer:
    """The module that exporters are given, run eagerly."""

    def __init__(self, path: Path, *, size: int) -> None:
        self.runtime = f"torch {torch.__version__}"
        self.size = size
        model, _ = load_model(path)
        self._module = prepare_scorer(model, size)

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        with torch.inference_mode():
            for index, image in enumerate(images):
                scores[index] = float(self._module(torch.from_numpy(image[None].copy()))[0])
        return scores
