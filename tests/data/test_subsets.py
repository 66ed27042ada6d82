"""Image sets made from image sets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.sets import bright_images, bright_set, make_set
from torch.nn import functional

from edgefiqa.data.image_set import ImageSet, Split
from edgefiqa.data.subsets import derive_image_set, draw_clusters, independent_units
from edgefiqa.errors import DataError, UsageError


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return bright_set(tmp_path / "set")


def test_same_size_copies_pixels_and_records(images: ImageSet, tmp_path: Path) -> None:
    rows = np.array([30, 2, 5])
    found = derive_image_set(images, tmp_path / "out", rows=rows)
    assert found.keys == [images.keys[row] for row in (2, 5, 30)]
    for new, old in enumerate((2, 5, 30)):
        np.testing.assert_array_equal(found.image(new), images.image(old))
        for name in ("label", "split", "cluster", "photo", "sha256"):
            assert found.records[new][name] == images.records[old][name]
    assert found.meta["label"] == images.meta["label"]
    assert found.meta["from"]["index_sha256"] == images.identity


def test_smaller_is_resized_as_torchvision_does(tmp_path: Path) -> None:
    pixels, _ = bright_images(3)
    longer = [np.concatenate((image, image[:32])) for image in pixels]
    images = make_set(tmp_path / "set", longer, labels=[0.1, 0.2, 0.3])
    found = derive_image_set(images, tmp_path / "out", size=40)
    assert (found.size, len(found)) == (40, 3)
    assert found.image(0).shape == (60, 40, 3)
    values = torch.from_numpy(longer[1]).permute(2, 0, 1)[None].float()
    wanted = functional.interpolate(values, (60, 40), mode="bilinear", antialias=True)
    distance = np.abs(found.image(1) - wanted[0].permute(1, 2, 0).numpy())
    assert distance.max() <= 1.0


def test_repeats_and_refuses_another_plan(images: ImageSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = derive_image_set(images, out, size=32)
    before = (out / "meta.json").stat().st_mtime_ns
    assert derive_image_set(images, out, size=32).identity == first.identity
    assert (out / "meta.json").stat().st_mtime_ns == before
    assert derive_image_set(images, tmp_path / "other", size=32).identity == first.identity
    with pytest.raises(DataError, match="another set"):
        derive_image_set(images, out, size=32, rows=np.arange(5))
    with pytest.raises(UsageError, match=r"Allowed: 96 or more|smaller than the recipe"):
        derive_image_set(images, tmp_path / "larger", size=96)


def in_clusters(out: Path, clusters: list[int | None]) -> ImageSet:
    pixels, labels = bright_images(len(clusters))
    images = make_set(out, list(pixels), labels=labels.tolist())
    records = [{**r, "cluster": c} for r, c in zip(images.records, clusters, strict=True)]
    return ImageSet(path=images.path, meta=images.meta, records=records)


def test_units_are_clusters_else_photographs(tmp_path: Path) -> None:
    images = in_clusters(tmp_path / "set", [7, None, 7, 3, None])
    units = independent_units(images)
    assert units[0] == units[2]
    assert len(set(units.tolist())) == 4


def test_draw_takes_whole_clusters(tmp_path: Path) -> None:
    images = in_clusters(tmp_path / "set", [n // 3 for n in range(30)])
    draws = {seed: draw_clusters(images, Split.TRAIN, 10, seed=seed) for seed in range(4)}
    for rows in draws.values():
        assert len(rows) == 12
        assert rows.tolist() == sorted(rows)
        assert all(c == 3 for c in np.unique(rows // 3, return_counts=True)[1])
    np.testing.assert_array_equal(draws[1], draw_clusters(images, Split.TRAIN, 10, seed=1))
    assert len({tuple(rows) for rows in draws.values()}) == 4
    assert len(draw_clusters(images, Split.TRAIN, 30, seed=0)) == 30
    with pytest.raises(DataError, match="too few images"):
        draw_clusters(images, Split.TRAIN, 31, seed=0)
