"""Calibration and evaluation images: enough, not flat, and never the same."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.sets import make_set

from edgefiqa.errors import DataError, UsageError
from edgefiqa.measuring.image_source import ImageSource, SourceSpec
from edgefiqa.quantize.images import check_disjoint, load_images, open_sources

SIDE = 32


def write(folder: Path, images: list[np.ndarray]) -> SourceSpec:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return SourceSpec(path=folder)


def noise(count: int, seed: int) -> list[np.ndarray]:
    """Return smooth random pictures, each unlike the others."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC))
        for pixels in small
    ]


def check(calibration: ImageSource, evaluation: ImageSource, folder: Path) -> None:
    images = load_images(calibration, SIDE, folder / "c.npy", purpose="calibration")
    other = load_images(evaluation, SIDE, folder / "e.npy", purpose="evaluation")
    check_disjoint(calibration, evaluation, images, other)


def test_other_photographs_are_accepted(tmp_path: Path) -> None:
    sources = open_sources(write(tmp_path / "a", noise(12, 0)), write(tmp_path / "b", noise(9, 1)))
    check(*sources, tmp_path)


@pytest.mark.parametrize("change", ["same", "mirrored", "darker", "smaller"])
def test_a_copy_on_both_sides_is_an_error(tmp_path: Path, change: str) -> None:
    images, others = noise(12, 0), noise(9, 1)
    copy = {
        "same": lambda image: image,
        "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
        "darker": lambda image: (image * 0.8).astype(np.uint8),
        "smaller": lambda image: np.asarray(Image.fromarray(image).resize((40, 40))),
    }[change](images[5])
    sources = open_sources(write(tmp_path / "a", images), write(tmp_path / "b", [*others, copy]))
    with pytest.raises(DataError, match=r"evaluation image too.*05\.png and 09\.png"):
        check(*sources, tmp_path)


def test_an_image_set_is_cut_by_photograph(tmp_path: Path) -> None:
    images = np.stack(noise(40, 2))
    splits = ["train"] * 30 + ["held_back"] * 10
    folder = tmp_path / "set"
    make_set(folder, list(images), labels=[0.5] * 40, splits=splits)
    calibration, evaluation = open_sources(SourceSpec(path=folder), SourceSpec(path=folder))
    assert (len(calibration), len(evaluation)) == (30, 10)
    check(calibration, evaluation, tmp_path)
    overlapping = SourceSpec(path=folder, splits=("train", "held_back"))
    with pytest.raises(DataError, match="evaluation image too"):
        check(*open_sources(overlapping, SourceSpec(path=folder)), tmp_path)


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_calibration_images(tmp_path: Path, count: int) -> None:
    specs = write(tmp_path / "a", noise(count, 0)), write(tmp_path / "b", noise(9, 1))
    with pytest.raises(DataError, match=rf"{count} calibration images say too little"):
        open_sources(*specs)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="no photo in this folder"):
        open_sources(SourceSpec(path=tmp_path / "a"), write(tmp_path / "b", noise(9, 1)))


def test_black_images(tmp_path: Path) -> None:
    black = [np.zeros((64, 64, 3), np.uint8)] * 10
    sources = open_sources(write(tmp_path / "a", black), write(tmp_path / "b", noise(9, 1)))
    with pytest.raises(DataError, match="every calibration image is of one colour"):
        check(*sources, tmp_path)
