from pathlib import Path

import numpy as np
import pytest
import torch
from tests.sets import make_set

from edgefiqa.data.batches import IMAGENET_MEAN, IMAGENET_STD, Batch, draw_batch, normalise
from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 96, 96, 3), dtype=np.uint8)
ROWS = np.array([1, 2, 3, 5, 7])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return make_set(tmp_path_factory.mktemp("set"), list(IMAGES), labels=[0.5] * 10)


def draw(
    images: ImageSet,
    first: int = 0,
    count: int = 4,
    crop: int = 64,
    seed: int = 1,
    *,
    turned: bool = False,
) -> Batch:
    return draw_batch(
        images, ROWS, first=first, count=count, crop=crop, grid=32, seed=seed, turned=turned
    )


def test_normalise() -> None:
    values = normalise(IMAGES[:2])
    expected = (IMAGES[:2] / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(values.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert values.dtype == torch.float32
    assert values.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("turned", [False, True])
def test_crops_are_where_they_say(images: ImageSet, turned: bool) -> None:
    batch = draw(images, count=32, turned=turned)
    assert set(batch.turns) == (set(range(4)) if turned else {0})
    assert batch.mirrored.any()
    assert not batch.mirrored.all()
    assert set(batch.tops) == set(batch.lefts) == {0, 32}
    for i, row in enumerate(batch.rows):
        image = IMAGES[row, :, ::-1] if batch.mirrored[i] else IMAGES[row]
        top, left = batch.tops[i], batch.lefts[i]
        expected = normalise(image[None, top : top + 64, left : left + 64])[0]
        assert torch.equal(batch.images[i], torch.rot90(expected, int(batch.turns[i]), (1, 2)))


def test_turning_changes_nothing_else(images: ImageSet) -> None:
    plain, turned = draw(images, count=8), draw(images, count=8, turned=True)
    for name in ("rows", "tops", "lefts", "mirrored"):
        assert np.array_equal(getattr(plain, name), getattr(turned, name))


def test_long_images_are_crossed_from_end_to_end(tmp_path: Path) -> None:
    long = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (64, 1, 3))
    images = make_set(tmp_path / "set", [long], labels=[0.5])
    batch = draw_batch(images, np.array([0]), first=0, count=400, crop=64, grid=1, seed=0)
    assert set(batch.tops) == {0}
    assert (batch.lefts.min(), batch.lefts.max()) == (0, 136)


def test_each_epoch_shows_every_row_once(images: ImageSet) -> None:
    rows = draw(images, count=25).rows.reshape(5, 5)
    assert all(sorted(epoch) == list(ROWS) for epoch in rows)
    assert len({tuple(epoch) for epoch in rows}) > 1


def test_rows_do_not_depend_on_how_the_sequence_is_cut(images: ImageSet) -> None:
    whole = draw(images, count=24).rows
    parts = [draw(images, first=first, count=3).rows for first in range(0, 24, 3)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_a_part_is_the_part_of_the_whole(images: ImageSet) -> None:
    whole = draw(images, count=8)
    part = draw_batch(images, ROWS, first=0, count=8, crop=64, grid=32, seed=1, part=slice(4, None))
    assert torch.equal(part.images, whole.images[4:])
    assert np.array_equal(part.rows, whole.rows[4:])
    assert np.array_equal(part.tops, whole.tops[4:])


def test_deterministic_by_seed(images: ImageSet) -> None:
    first, again, other = draw(images), draw(images), draw(images, seed=2)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("crop", [0, 97])
def test_impossible_crops(images: ImageSet, crop: int) -> None:
    with pytest.raises(DataError, match=f"crop {crop}"):
        draw(images, crop=crop)


def test_no_rows(images: ImageSet) -> None:
    with pytest.raises(DataError, match="0 images"):
        draw_batch(images, ROWS[:0], first=0, count=1, crop=32, grid=32, seed=0)
