"""Scoring an image set with a torch model, and comparing with labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgefiqa.data.batches import normalise
from edgefiqa.data.image_set import ImageSet
from edgefiqa.metrics import plcc, srcc
from edgefiqa.train.settings import View

__all__ = ["centre_crop", "evaluate", "score_images", "spread_rows"]


def centre_crop(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut the square out of the middle, with torchvision's rounding.

    Args:
        image: uint8 ``[H,W,3]``, no side shorter than `size`.
        size: Side in pixels.

    Returns:
        uint8 ``[size,size,3]``, a view.
    """
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def spread_rows(rows: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """Return about `limit` of the rows, evenly spread; all without a limit."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[:: -(-len(rows) // limit)]


@torch.inference_mode()
def score_images(
    model: nn.Module,
    images: ImageSet,
    rows: NDArray[np.int64],
    *,
    batch: int = 16,
    views: Sequence[View] = (View.PLAIN,),
) -> NDArray[np.float32]:
    """Score the centre squares of stored images, in evaluation mode and float32.

    Args:
        model: A scorer, normalised float32 NCHW to ``[N]``.
        images: The set.
        rows: Which of its images.
        batch: Images a step.
        views: Scores are averaged over these.

    Returns:
        float32, one score a row.
    """
    was_training = model.training
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    model.eval()
    parts = []
    for start in range(0, len(rows), batch):
        squares = [centre_crop(images.image(r), images.size) for r in rows[start : start + batch]]
        values = normalise(np.stack(squares)).to(device)
        flipped = {View.PLAIN: values, View.MIRRORED: values.flip(3)}
        scores = torch.stack([model(flipped[view]).float() for view in views]).mean(0)
        parts.append(scores.cpu().numpy())
    model.train(was_training)
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def evaluate(
    model: nn.Module,
    images: ImageSet,
    rows: NDArray[np.int64],
    *,
    targets: NDArray[np.float32] | None = None,
    limit: int | None = None,
    views: Sequence[View] = (View.PLAIN,),
) -> dict[str, Any]:
    """Score rows of a set and compare with their labels.

    Args:
        model: A scorer.
        images: The set.
        rows: Which of its images.
        targets: One a row; the set's labels if not given.
        limit: Use about this many images, evenly spread.
        views: Scores are averaged over these.

    Returns:
        n, SRCC and PLCC; NaN where scores or labels are constant.
    """
    wanted = images.labels[rows] if targets is None else targets
    chosen = spread_rows(np.arange(len(rows)), limit)
    scores = score_images(model, images, rows[chosen], views=views)
    return {
        "n": len(chosen),
        "srcc": round(srcc(scores, wanted[chosen]), 6),
        "plcc": round(plcc(scores, wanted[chosen]), 6),
    }
