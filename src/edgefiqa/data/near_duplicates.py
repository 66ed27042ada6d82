"""Which photographs are copies of each other, and splits that keep copies together.

::

    photo ──difference_hash──▶ 256 bits ──cluster_hashes──▶ clusters ──split_clusters──▶ held back?

Two photos are near duplicates if their hashes, or one's hash and that of the other's mirror image,
differ in few bits; links are transitive. Comparing all pairs is exact and, as blocks of matrix
products, takes seconds for tens of thousands of photos.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.photographs import load_rgb
from edgefiqa.errors import DataError

__all__ = [
    "HASH_BITS",
    "cluster_hashes",
    "cluster_photos",
    "difference_hash",
    "group_identical",
    "split_clusters",
]

HASH_BITS = 256
_SIDE = 16
_BLOCK = 2048  # 2048² float32 products: 16 MB at a time, whatever the number of photos


def difference_hash(image: Image.Image) -> NDArray[np.uint8]:
    """Hash a photo: is each cell of a 17×16 thumbnail brighter than its left neighbour?

    Args:
        image: RGB, upright.

    Returns:
        256 values 0 or 1, uint8.
    """
    grey = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    cells = np.asarray(grey)
    return (cells[:, 1:] > cells[:, :-1]).ravel().astype(np.uint8)


def cluster_photos(paths: Sequence[Path], *, duplicate_bits: int) -> NDArray[np.int64]:
    """Group near duplicates, so that no group is split between training and held-back photos.

    Args:
        paths: The photographs.
        duplicate_bits: Photos whose 256-bit difference hashes (also against the mirrored photo)
            differ in at most this many bits are linked; links are transitive.

    Returns:
        One cluster number a photo: the index of its first member.
    """
    hashes = np.stack([difference_hash(Image.fromarray(load_rgb(path))) for path in paths])
    return cluster_hashes(hashes, duplicate_bits=duplicate_bits)


def cluster_hashes(hashes: NDArray[np.uint8], *, duplicate_bits: int) -> NDArray[np.int64]:
    """Group hashes that differ in few bits, directly or through others.

    Args:
        hashes: What `difference_hash` gave, uint8 ``[N,256]`` of 0 and 1.
        duplicate_bits: Largest number of differing bits that links two photos.

    Returns:
        One cluster number a hash: the index of its first member.
    """
    # With bits as ±1, a product of two hashes is 256 − 2·(bits that differ), exact in float32.
    signs = hashes.astype(np.float32) * 2 - 1
    # A mirror image reverses each row of comparisons and their direction.
    mirrored = -signs.reshape(-1, _SIDE, _SIDE)[:, :, ::-1].reshape(-1, HASH_BITS)
    least = HASH_BITS - 2 * duplicate_bits
    parent = np.arange(len(signs), dtype=np.int64)
    for top in range(0, len(signs), _BLOCK):
        rows = signs[top : top + _BLOCK]
        # Both relations are symmetric: the blocks on and right of the diagonal hold every pair.
        for left in range(top, len(signs), _BLOCK):
            linked = rows @ signs[left : left + _BLOCK].T >= least
            linked |= rows @ mirrored[left : left + _BLOCK].T >= least
            _join_block(parent, linked, top, left)
    return _roots(parent, np.arange(len(signs), dtype=np.int64))


def _join_block(parent: NDArray[np.int64], linked: NDArray[np.bool_], top: int, left: int) -> None:
    if top == left:
        np.fill_diagonal(linked, val=False)
    for row in np.flatnonzero(linked.any(axis=1)):
        members = np.append(np.flatnonzero(linked[row]) + left, top + row)
        roots = np.unique(_roots(parent, members))
        parent[roots] = parent[members] = roots[0]


def _roots(parent: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each member's first ancestor; parents come before their children."""
    while True:
        above = parent[members]
        if np.array_equal(above, members):
            return members
        members = above


def group_identical(digests: Sequence[Hashable]) -> list[list[int]]:
    """Group equal digests.

    Args:
        digests: For example the sha256 of each file.

    Returns:
        The indices of each group of two or more, in order of first members.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def split_clusters(clusters: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Hold back whole clusters, drawn at random.

    Args:
        clusters: One cluster number a photo.
        share: Share of the clusters (not of the photos) that is held back, 0..1.
        seed: Seed of the draw.

    Returns:
        Which photos are held back.

    Raises:
        DataError: The share is outside 0..1.
    """
    if not 0 <= share <= 1:
        raise DataError("the held-back share is out of range", value=share, allowed="0 to 1")
    names = np.unique(clusters)
    order = np.random.default_rng(seed).permutation(names)
    return np.isin(clusters, order[: round(share * len(names))])
