import numpy as np
import pytest
import torch

from edgefiqa.data.batches import IMAGENET_MEAN, IMAGENET_STD, Batch, draw_batch, normalise
from edgefiqa.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 96, 96, 3), dtype=np.uint8)
ROWS = np.array([1, 2, 3, 5, 7])


def draw(first: int = 0, count: int = 4, crop: int = 64, seed: int = 1) -> Batch:
    return draw_batch(IMAGES, ROWS, first=first, count=count, crop=crop, grid=32, seed=seed)


def test_normalise() -> None:
    values = normalise(IMAGES[:2])
    expected = (IMAGES[:2] / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(values.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert values.dtype == torch.float32
    assert values.is_contiguous(memory_format=torch.channels_last)


def test_crops_are_where_they_say() -> None:
    batch = draw(count=32)
    assert batch.mirrored.any()
    assert not batch.mirrored.all()
    assert set(batch.tops) == set(batch.lefts) == {0, 32}
    for i, row in enumerate(batch.rows):
        image = IMAGES[row, :, ::-1] if batch.mirrored[i] else IMAGES[row]
        top, left = batch.tops[i], batch.lefts[i]
        expected = normalise(image[None, top : top + 64, left : left + 64])
        assert torch.equal(batch.images[i], expected[0])


def test_each_epoch_shows_every_row_once() -> None:
    rows = draw(count=25).rows.reshape(5, 5)
    assert all(sorted(epoch) == list(ROWS) for epoch in rows)
    assert len({tuple(epoch) for epoch in rows}) > 1


def test_rows_do_not_depend_on_how_the_sequence_is_cut() -> None:
    whole = draw(count=24).rows
    parts = [draw(first=first, count=3).rows for first in range(0, 24, 3)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_deterministic_by_seed() -> None:
    first, again, other = draw(), draw(), draw(seed=2)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("crop", [0, 97])
def test_impossible_crops(crop: int) -> None:
    with pytest.raises(DataError, match=f"crop {crop}"):
        draw(crop=crop)


def test_no_rows() -> None:
    with pytest.raises(DataError, match="0 images"):
        draw_batch(IMAGES, ROWS[:0], first=0, count=1, crop=32, grid=32, seed=0)
