import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tests.sets import bright_images, make_set

from edgefiqa.data.image_set import ImageSet, open_image_set
from edgefiqa.train import TrainRecipe

MakeRecipe = Callable[..., TrainRecipe]


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images, short side 64: the brighter the better, so that something can be learned."""
    pixels, labels = bright_images(40)
    # Some are longer than they are wide.
    longer = [np.concatenate((p, p[:16])) if i % 5 == 0 else p for i, p in enumerate(pixels)]
    splits = ["train"] * 24 + ["held_back"] * 8 + ["held_out_types"] * 8
    out = tmp_path_factory.mktemp("images") / "set"
    return make_set(out, longer[::-1], labels=labels[::-1].tolist(), splits=splits).path


@pytest.fixture
def images(tiny_set: Path) -> ImageSet:
    return open_image_set(tiny_set)


def recipe_values(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "model": "timm:test_convnext",
        "phases": [{"steps": 12, "batch": 4, "crop": 32}],
        "rate": 1e-3,
        "schedule": {"kind": "cosine", "warmup": 2},
        "evaluate_every": 4,
        "log_every": 1,
        "threads": 1,
    }
    return values | changes


@pytest.fixture
def make_recipe() -> MakeRecipe:
    return lambda **changes: TrainRecipe.model_validate(recipe_values(**changes))


@pytest.fixture
def write_recipe(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: object) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe_values(**changes)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def start_training() -> Callable[..., "subprocess.Popen[str]"]:
    """Start ``python -m edgefiqa train`` (or a launcher of it) in a separate process."""

    def start(*arguments: object, launcher: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        command = [sys.executable, *launcher, "-m", "edgefiqa", "train", *map(str, arguments)]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return start


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
