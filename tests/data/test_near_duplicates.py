import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data import near_duplicates as module
from edgefiqa.data.near_duplicates import (
    cluster_hashes,
    cluster_photos,
    difference_hash,
    group_identical,
    split_clusters,
)
from edgefiqa.errors import DataError


def paint(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize((180, 140), Image.Resampling.BICUBIC)


def brute_force(hashes: NDArray[np.uint8], bits: int) -> list[int]:
    """Compare every pair in plain Python, then spread the smallest number along the links."""
    rows = [row.reshape(16, 16) for row in hashes]
    labels = list(range(len(rows)))

    def near(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
        mirror = 1 - b[:, ::-1]
        return bool(min(np.sum(a != b), np.sum(a != mirror)) <= bits)

    changed = True
    while changed:
        changed = False
        for i in range(len(rows)):
            for j in range(len(rows)):
                if labels[j] < labels[i] and near(rows[i], rows[j]):
                    labels[i], changed = labels[j], True
                elif labels[i] < labels[j] and near(rows[i], rows[j]):
                    labels[j], changed = labels[i], True
    return labels


def test_hash_is_imagehash_s_difference_hash() -> None:
    imagehash = pytest.importorskip("imagehash")
    for seed in range(5):
        theirs = imagehash.dhash(paint(seed), hash_size=16).hash.ravel()
        assert np.array_equal(difference_hash(paint(seed)).astype(bool), theirs)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 24),
    bits=st.integers(0, 130),
    block=st.sampled_from([3, 7, 2048]),
)
def test_clusters_are_those_of_brute_force(seed: int, count: int, bits: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2, (count, 256), dtype=np.uint8)
    for row in range(1, count):  # copies with some bits flipped, some of them mirrored
        source = hashes[rng.integers(row)].reshape(16, 16)
        copy = 1 - source[:, ::-1] if rng.random() < 0.5 else source
        flips = rng.random(256) < rng.uniform(0, 0.5)
        hashes[row] = copy.ravel() ^ flips
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        found = cluster_hashes(hashes, duplicate_bits=bits)
    assert found.tolist() == brute_force(hashes, bits)


def test_thousands_of_photos_take_seconds_even_if_all_are_the_same() -> None:
    rng = np.random.default_rng(0)
    for hashes in (rng.integers(0, 2, (6000, 256), np.uint8), np.zeros((6000, 256), np.uint8)):
        start = time.perf_counter()
        clusters = cluster_hashes(hashes, duplicate_bits=40)
        assert time.perf_counter() - start < 10
        assert len(set(clusters.tolist())) in (1, 6000)


def test_copies_of_a_photo_are_near_duplicates_and_other_photos_are_not(tmp_path: Path) -> None:
    original = paint(0)
    jpeg = io.BytesIO()
    original.save(jpeg, "JPEG", quality=20)
    copies = [
        original,
        paint(1),
        original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        original.resize((90, 70)),
        Image.open(jpeg),
        paint(2),
    ]
    paths = [tmp_path / f"{number}.png" for number in range(len(copies))]
    for copy, path in zip(copies, paths, strict=True):
        copy.save(path)
    assert cluster_photos(paths, duplicate_bits=40).tolist() == [0, 1, 0, 0, 0, 5]


def test_identical_digests_are_grouped_in_order() -> None:
    assert group_identical(["b", "a", "b", "c", "a", "b"]) == [[0, 2, 5], [1, 4]]
    assert group_identical([]) == []


@given(
    clusters=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_splits_keep_clusters_whole(clusters: list[int], share: float, seed: int) -> None:
    numbers = np.array(clusters)
    mask = split_clusters(numbers, share, seed)
    held, trained = set(numbers[mask].tolist()), set(numbers[~mask].tolist())
    assert not held & trained
    assert len(held) == round(share * len(held | trained))
    assert np.array_equal(mask, split_clusters(numbers, share, seed))


def test_split_depends_on_the_seed_and_refuses_a_wrong_share() -> None:
    clusters = np.arange(100)
    assert not np.array_equal(split_clusters(clusters, 0.5, 1), split_clusters(clusters, 0.5, 2))
    with pytest.raises(DataError, match="0 to 1"):
        split_clusters(clusters, 80, 1)
