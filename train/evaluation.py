"""Scoring a corpus with a torch model, and comparing with its labels."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgefiqa.data.batches import normalise
from edgefiqa.data.corpus import Corpus, Split
from edgefiqa.metrics import plcc, srcc

__all__ = ["evaluate", "score_images"]


@torch.inference_mode()
def score_images(
    model: nn.Module, images: NDArray[np.uint8], rows: NDArray[np.int64], *, batch: int = 16
) -> NDArray[np.float32]:
    """Score stored images whole, in evaluation mode and float32.

    Args:
        model: A scorer, normalised float32 NCHW to ``[N]``.
        images: uint8 ``[N,S,S,3]``.
        rows: Which of them.
        batch: Images a step.

    Returns:
        float32, one score a row.
    """
    was_training = model.training
    model.eval()
    parts = [
        model(normalise(images[rows[i : i + batch]])).float().numpy()
        for i in range(0, len(rows), batch)
    ]
    model.train(was_training)
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def evaluate(
    model: nn.Module, corpus: Corpus, split: Split, *, limit: int | None = None
) -> dict[str, Any]:
    """Score one split and compare with its labels.

    Args:
        model: A scorer.
        corpus: The corpus.
        split: Which part.
        limit: Use about this many images, evenly spread.

    Returns:
        The split's name, n, SRCC and PLCC.
    """
    rows = corpus.rows(split)
    if limit is not None and len(rows) > limit:
        rows = rows[:: -(-len(rows) // limit)]
    scores = score_images(model, corpus.images, rows)
    labels = corpus.labels[rows]
    return {
        "split": split.value,
        "n": len(rows),
        "srcc": round(srcc(scores, labels), 4),
        "plcc": round(plcc(scores, labels), 4),
    }
