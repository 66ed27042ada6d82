"""The calibration and the evaluation images: opened once, proved disjoint, given to processes.

Ranges that were taken from the images they are judged on prove nothing, so an image, a
near-duplicate of it or another copy of its photograph on both sides is an error.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.image_set import Split, is_image_set, open_image_set
from edgefiqa.data.near_duplicates import HASH_BITS, cluster_hashes, difference_hash
from edgefiqa.errors import DataError
from edgefiqa.files import staged_path
from edgefiqa.measuring.image_source import ImageSource, SourceSpec, open_source

__all__ = ["FEWEST_CALIBRATION", "Images", "check_disjoint", "load_images", "open_sources"]

FEWEST_CALIBRATION = 8
"""Fewer images say too little about the ranges of activations."""

_DUPLICATE_BITS = 24
_FEWEST_SET_BITS = HASH_BITS // 8
_FLAT = 1.0  # standard deviation of pixel values, of 255


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images as scorers take them.

    Attributes:
        identity: sha256 over keys and contents, in order.
        name: Where they come from, for people.
        keys: Their names.
        clusters: Which are not independent of each other.
        labels: float64 ``[n]``, nan where there is none.
        path: ``.npy`` file of the tensors, uint8 ``[n, S, S, 3]``.
    """

    identity: str
    name: str
    keys: list[str]
    clusters: list[str]
    labels: NDArray[np.float64]
    path: Path

    def tensors(self) -> NDArray[np.uint8]:
        """Map the tensors into memory."""
        found: NDArray[np.uint8] = np.load(self.path, mmap_mode="r")
        return found


def open_sources(
    calibration: SourceSpec, evaluation: SourceSpec
) -> tuple[ImageSource, ImageSource]:
    """Open both; an image set gives its training images to calibration unless told otherwise.

    Raises:
        DataError: One has no image, or calibration has too few.
    """
    if is_image_set(calibration.path) and not calibration.splits:
        splits = open_image_set(calibration.path).splits
        if (splits == Split.TRAIN.value).any():
            spec = {**vars(calibration), "splits": (Split.TRAIN.value,)}
            calibration = SourceSpec(**spec)
    calibration_source, other = open_source(calibration), open_source(evaluation)
    if len(calibration_source) < FEWEST_CALIBRATION:
        raise DataError(
            f"{len(calibration_source)} calibration images say too little about activation ranges",
            value=calibration.path,
            allowed=f"{FEWEST_CALIBRATION} or more, 100 are usual",
        )
    return calibration_source, other


def load_images(source: ImageSource, size: int, path: Path, *, purpose: str) -> Images:
    """Preprocess all images of a source into one file.

    Args:
        source: The images.
        size: S, in pixels.
        path: The ``.npy`` file to write.
        purpose: For errors: what the images are for.

    Raises:
        ImageError: One cannot be read.
        DataError: Every image is flat: nothing can be learned from them.
    """
    with staged_path(path) as stage:
        tensors = np.lib.format.open_memmap(
            stage, mode="w+", dtype=np.uint8, shape=(len(source), size, size, 3)
        )
        spread = 0.0
        for row in range(len(source)):
            tensors[row] = source.tensor(row, size)[0]
            spread = max(spread, float(tensors[row].std()))
        tensors.flush()
        if spread < _FLAT:
            raise DataError(
                f"every {purpose} image is of one colour",
                value=source.spec.path,
                next_step="name photographs like those the app will score",
            )
    return Images(
        identity=source.identity,
        name=source.spec.path.name,
        keys=source.keys,
        clusters=source.clusters,
        labels=source.labels,
        path=path,
    )


def check_disjoint(
    calibration: ImageSource, evaluation: ImageSource, images: Images, other: Images
) -> None:
    """Refuse calibration images that are evaluation images too, or nearly.

    Image sets of one folder know which photograph each image was made from; elsewhere perceptual
    hashes find near-duplicates.

    Raises:
        DataError: Naming a pair.
    """
    if calibration.spec.path.resolve() == evaluation.spec.path.resolve() and is_image_set(
        calibration.spec.path
    ):
        pair = _shared(images.clusters, other.clusters, images.keys, other.keys)
    else:
        pair = _near_duplicates(images, other)
    if pair is not None:
        raise DataError(
            "a calibration image is an evaluation image too, or nearly",
            value=f"{pair[0]} and {pair[1]}",
            next_step="calibrate with other photographs: edgefiqa data check finds duplicates",
        )


def _shared(
    clusters: list[str], others: list[str], keys: list[str], other_keys: list[str]
) -> tuple[str, str] | None:
    known = dict(zip(others, other_keys, strict=True))
    for cluster, key in zip(clusters, keys, strict=True):
        if cluster in known:
            return key, known[cluster]
    return None


def _near_duplicates(calibration: Images, other: Images) -> tuple[str, str] | None:
    """Find one pair of images whose difference hashes nearly agree; nearly flat ones have none."""
    hashes = [
        difference_hash(Image.fromarray(tensor))
        for images in (calibration, other)
        for tensor in images.tensors()
    ]
    names = [*calibration.keys, *other.keys]
    telling = [
        row
        for row, bits in enumerate(hashes)
        if _FEWEST_SET_BITS <= int(bits.sum()) <= HASH_BITS - _FEWEST_SET_BITS
    ]
    if not telling:
        return None
    clusters = cluster_hashes(
        np.stack([hashes[row] for row in telling]), duplicate_bits=_DUPLICATE_BITS
    )
    first: dict[int, int] = {}
    for row, cluster in zip(telling, clusters, strict=True):
        if row < len(calibration.keys):
            first.setdefault(int(cluster), row)
        elif int(cluster) in first:
            return names[first[int(cluster)]], names[row]
    return None
