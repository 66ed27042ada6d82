"""No-reference baselines: higher is better, and they agree with other implementations."""

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgefiqa.benchmarks.studies.accuracy.baselines import BASELINES, load_baseline
from edgefiqa.errors import MissingExtraError, UnknownNameError

PACKAGES = {"niqe": "skvideo", "brisque": "brisque", "laplacian": "scipy"}


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    from skimage import data

    return Image.fromarray(data.astronaut()[:288, :288])


def _blurred(image: Image.Image, radius: float) -> NDArray[np.uint8]:
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))


def _load(name: str) -> Any:
    try:
        return load_baseline(name)
    except MissingExtraError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", BASELINES.names())
def test_a_sharp_image_is_better_than_a_blurred_one(name: str, astronaut: Image.Image) -> None:
    baseline = _load(name)
    sharp, blurred = (baseline.score(_blurred(astronaut, radius)) for radius in (0, 3))
    assert np.isfinite([sharp, blurred]).all()
    assert sharp > blurred
    assert baseline.lower_is_better is (name != "laplacian")


@pytest.mark.parametrize("name", BASELINES.names())
def test_an_image_without_texture_gives_no_warning(name: str) -> None:
    assert isinstance(_load(name).score(np.full((288, 288, 3), 128, np.uint8)), float)


def test_laplacian_equals_its_definition() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    grey = np.asarray(Image.fromarray(image).convert("L")).astype(float)
    # scipy's border: each edge pixel is repeated.
    padded = np.pad(grey, 1, mode="symmetric")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    assert load_baseline("laplacian").score(image) == pytest.approx((around - 4 * grey).var())


@pytest.mark.slow
def test_brisque_agrees_with_piq_on_the_same_support_vectors(
    astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from piq import brisque

    baseline = _load("brisque")
    lines = baseline.parameters_file.read_text().partition("SV\n")[2].splitlines()
    rows = [[float(part.rpartition(":")[2]) for part in line.split()] for line in lines]
    table = torch.tensor(rows)
    # piq downloads them (and transposes them in place); what it computes with them is piq's code.
    monkeypatch.setattr(
        sys.modules["piq.brisque"],
        "load_url",
        lambda *_, **__: (table[:, :1].clone(), table[:, 1:].clone()),
    )
    noise = np.random.default_rng(0).normal(0, 20, (288, 288, 3))
    images = [_blurred(astronaut, radius) for radius in (0, 1, 3)]
    images += [np.clip(images[0] + noise * k, 0, 255).astype(np.uint8) for k in (0.5, 2)]
    other = []
    for image in images:
        tensor = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
        other.append(-float(brisque(tensor)))
    scores = [baseline.score(image) for image in images]
    assert np.corrcoef(scores, other)[0, 1] > 0.95
    assert np.ptp(other) > 30


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="niqe, brisque, laplacian"):
        load_baseline("niqa")


@pytest.mark.parametrize("name", ["niqe", "brisque"])
def test_a_missing_library_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.partition(".")[0] == PACKAGES[name]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(MissingExtraError, match=r"edgefiqa\[baselines\]"):
        load_baseline(name)
