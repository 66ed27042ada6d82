"""The trained weights themselves, in torch: what every other runtime is compared with."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgefiqa.models.normalisation import normalise
from edgefiqa.models.store import load_model
from edgefiqa.runtimes.base import check_images

__all__ = ["TorchScorer", "score_with_torch"]

_CHUNK = 16


def score_with_torch(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Score with the network as trained: no fold, no rewrite.

    Args:
        model: A network of ``edgefiqa.models`` in evaluation mode.
        images: uint8 ``[n, S, S, 3]``.
    """
    with torch.inference_mode():
        parts = [
            model(normalise(torch.from_numpy(np.ascontiguousarray(images[i : i + _CHUNK]))))
            for i in range(0, len(images), _CHUNK)
        ]
    scores: NDArray[np.float32] = torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
    return scores


class TorchScorer:
    """A model directory, run eagerly."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self.runtime = f"torch {torch.__version__}"
        torch.set_num_threads(threads)
        self._model, card = load_model(path)
        self.size = card.size

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images; see ``Scorer.score``."""
        check_images(images, self.size)
        return score_with_torch(self._model, images)
