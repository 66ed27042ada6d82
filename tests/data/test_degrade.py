from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgefiqa.data.degrade import (
    DEGRADATIONS,
    HELD_OUT,
    Applied,
    DegradationName,
    degrade,
    generator,
    plan_chain,
)
from edgefiqa.errors import DataError, UnknownNameError

# Occlusion and the codecs move in steps; the others must grow from each severity to the next.
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A photograph-like image: soft shading, edges, fine texture."""
    rng = np.random.default_rng(3)
    image = Image.new("RGB", (320, 300))
    draw = ImageDraw.Draw(image)
    for y in range(300):
        draw.line((0, y, 320, y), fill=(60 + y // 3, 110, 190 - y // 3))
    for _ in range(60):
        x, y, r = (int(v) for v in rng.integers((0, 0, 4), (300, 280, 40)))
        draw.ellipse((x, y, x + r, y + r), fill=tuple(int(v) for v in rng.integers(20, 235, 3)))
    texture = rng.normal(0, 6, (300, 320, 1))
    return np.clip(np.asarray(image) + texture, 0, 255).astype(np.uint8)


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(float) - b.astype(float)).mean())


@pytest.mark.parametrize("name", list(DegradationName))
def test_severity_raises_damage(name: DegradationName, photo: np.ndarray) -> None:
    damage = [
        squared_error(degrade(photo, [(name, severity)], generator(1, "a.jpg", 0))[0], photo)
        for severity in SEVERITIES
    ]
    assert all(low < high for low, high in pairwise(damage)), damage
    assert damage[-1] > 4 * damage[0]


@pytest.mark.parametrize("name", list(DegradationName))
def test_keeps_shape_and_leaves_the_input_alone(name: DegradationName, photo: np.ndarray) -> None:
    before = photo.copy()
    result, records = degrade(photo, [(name, 0.7)], generator(1, "a.jpg", 0))
    assert result.shape == photo.shape
    assert result.dtype == np.uint8
    assert np.array_equal(photo, before)
    assert [record.name for record in records] == [name]
    assert records[0].severity == 0.7
    assert records[0].parameters
    assert all(np.isfinite(value) for value in records[0].parameters.values())


@pytest.mark.parametrize("name", list(DegradationName))
@pytest.mark.parametrize("shape", [(40, 33), (33, 40), (301, 200)])
def test_works_at_any_size(name: DegradationName, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for severity in (0.0, 1.0):
        result, _ = degrade(image, [(name, severity)], generator(0, "b", 1))
        assert result.shape == image.shape


def test_same_seed_photo_and_variant_give_the_same_image(photo: np.ndarray) -> None:
    def make(seed: int, name: str, variant: int) -> tuple[np.ndarray, list[Applied]]:
        rng = generator(seed, name, variant)
        return degrade(photo, plan_chain(rng, list(DegradationName), pristine_share=0), rng)

    first, records = make(42, "a.jpg", 3)
    again, records_again = make(42, "a.jpg", 3)
    assert np.array_equal(first, again)
    assert records == records_again
    for other in (make(43, "a.jpg", 3), make(42, "b.jpg", 3), make(42, "a.jpg", 4)):
        assert not np.array_equal(first, other[0])


def test_chains_are_short_ordered_and_sometimes_empty() -> None:
    names = [name for name in DegradationName if name not in HELD_OUT]
    rng = np.random.default_rng(0)
    chains = [plan_chain(rng, names) for _ in range(2000)]
    lengths = np.array([len(chain) for chain in chains])
    assert set(lengths) == {0, 1, 2, 3}
    assert 0.03 < (lengths == 0).mean() < 0.07
    assert all(name in names for chain in chains for name, _ in chain)
    assert all(0 <= severity <= 1 for chain in chains for _, severity in chain)
    assert {name for chain in chains for name, _ in chain} == set(names)
    # A photograph is noisy before it is compressed, never the other way round.
    both = [
        [str(name) for name, _ in c]
        for c in chains
        if {"sensor_noise", "jpeg"} <= {n for n, _ in c}
    ]
    assert both
    assert all(chain.index("sensor_noise") < chain.index("jpeg") for chain in both)


def test_an_empty_chain_changes_nothing(photo: np.ndarray) -> None:
    result, records = degrade(photo, [], generator(0, "a", 0))
    assert np.array_equal(result, photo)
    assert records == []


def test_registry_is_complete() -> None:
    assert set(DEGRADATIONS) == set(DegradationName)
    assert set(DegradationName) > HELD_OUT


def test_faults_are_named(photo: np.ndarray) -> None:
    with pytest.raises(UnknownNameError, match=r"scratches.*gaussian_blur"):
        degrade(photo, [("scratches", 0.5)], generator(0, "a", 0))
    with pytest.raises(DataError, match=r"1\.5.*0 to 1"):
        degrade(photo, [("sensor_noise", 1.5)], generator(0, "a", 0))
