"""Training batches from an image set: a pure function of the seed and of the number of images seen.

Nothing is remembered between batches, so a resumed run sees exactly the batches that an
uninterrupted one would have seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import DataError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Batch", "draw_batch", "normalise"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Random crops, mirrored at random, and turned where asked for.

    Attributes:
        images: float32 NCHW in channels_last memory, normalised with ImageNet's figures.
        rows: Rows of the set.
        tops: First pixel row of each crop, before mirroring.
        lefts: First pixel column of each crop, in the mirrored image where it is mirrored.
        mirrored: Which images are mirrored.
        turns: Quarter turns (counter-clockwise) of each mirrored crop, 0..3.
    """

    images: Tensor
    rows: NDArray[np.int64]
    tops: NDArray[np.int64]
    lefts: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    turns: NDArray[np.int64]


def normalise(images: NDArray[np.uint8]) -> Tensor:
    """Turn stored images into network input.

    Args:
        images: uint8 ``[N,H,W,3]``.

    Returns:
        float32 ``[N,3,H,W]`` in channels_last memory.
    """
    # In numpy, whole rows of pixels at a time: torch would take the cores from the training step.
    values = np.divide(images, np.float32(255), dtype=np.float32)
    rows = values.reshape(*images.shape[:2], -1)
    rows -= np.tile(np.array(IMAGENET_MEAN, np.float32), images.shape[2])
    rows /= np.tile(np.array(IMAGENET_STD, np.float32), images.shape[2])
    return torch.from_numpy(values).permute(0, 3, 1, 2)


def _rows_at(rows: NDArray[np.int64], first: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return samples first..first+count of an endless sequence of shuffled epochs."""
    epochs = range(first // len(rows), (first + count - 1) // len(rows) + 1)
    shuffled = [np.random.default_rng([seed, 1, epoch]).permutation(rows) for epoch in epochs]
    start = first - epochs[0] * len(rows)
    return np.concatenate(shuffled)[start : start + count]


def draw_batch(
    images: ImageSet,
    rows: NDArray[np.int64],
    *,
    first: int,
    count: int,
    crop: int,
    grid: int,
    seed: int,
    turned: bool = False,
    part: slice = slice(None),
) -> Batch:
    """Draw one batch.

    Args:
        images: The set.
        rows: The rows to train on.
        first: How many images were drawn before this batch.
        count: Images in this batch.
        crop: Side of the crops in pixels; the set's size means whole square images, and a window
            along the long side of others.
        grid: Crops start at multiples of this many pixels.
        seed: The run's seed.
        turned: Turn each crop by a random number of quarter turns.
        part: Make only these images of the batch: what one of several processes needs.

    Returns:
        The batch, or the part of it.

    Raises:
        DataError: There are no rows, or the crop is larger than the images.
    """
    if not len(rows) or not 0 < crop <= images.size:
        found = f"{len(rows)} images of {images.size} pixels, crop {crop}"
        raise DataError(
            "cannot draw a batch", value=found, allowed="images no smaller than the crop"
        )
    chosen = _rows_at(rows, first, count, seed)
    rng = np.random.default_rng([seed, 2, first])
    places, mirrored = rng.random((2, count)), rng.random(count) < 0.5
    turns = rng.integers(4, size=count) if turned else np.zeros(count, np.int64)
    chosen, places, mirrored, turns = chosen[part], places[:, part], mirrored[part], turns[part]
    corners = np.empty(places.shape, np.int64)
    # A pixel is one element of three bytes: turned, channel by channel is many times slower.
    crops = np.empty((len(chosen), crop, crop), "V3")
    for i, row in enumerate(chosen):
        whole = images.image(row).view("V3")[..., 0]
        positions = (np.array(whole.shape[:2]) - crop) // grid + 1
        top, left = corners[:, i] = (places[:, i] * positions).astype(np.int64) * grid
        image = whole[:, ::-1] if mirrored[i] else whole
        crops[i] = np.rot90(image[top : top + crop, left : left + crop], turns[i])
    return Batch(
        images=normalise(crops[..., None].view(np.uint8)),
        rows=chosen,
        tops=corners[0],
        lefts=corners[1],
        mirrored=mirrored,
        turns=turns,
    )
