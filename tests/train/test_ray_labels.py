"""The Ray engine, in a separate process: Ray's threads and warnings are not this suite's."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.models import save_lively
from tests.sets import bright_set

from edgefiqa.train.chunk_scoring import LabelSettings
from edgefiqa.train.pseudo_labels import label_images

pytestmark = pytest.mark.slow

CODE = """
import typer
from edgefiqa.commands.train import label
typer.run(label)
"""


def assert_ray_equals_local(source: Path, tmp_path: Path) -> bytes:
    """Label with this process and with two workers on Ray; return the label file."""
    pytest.importorskip("ray")
    model, ray, local = (tmp_path / name for name in ("model", "ray", "local"))
    save_lively("efficient-fiqa-student", 64, model)
    label_images([model], source, local, settings=LabelSettings(views=2), workers=1)
    command = [sys.executable, "-c", CODE, str(source), "--model", str(model), "--out", str(ray)]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    subprocess.run(
        [*command, "--views", "2", "--engine", "ray", "--workers", "2"],
        check=True,
        timeout=300,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )
    for name in ("labels.csv", "labels.meta.json"):
        assert (ray / name).read_bytes() == (local / name).read_bytes()
    return (ray / "labels.csv").read_bytes()


def test_rows_of_a_set(tmp_path: Path) -> None:
    images = bright_set(tmp_path / "set", train=20, held=4)
    assert assert_ray_equals_local(images.path, tmp_path).count(b"\n") == 29


def test_rows_of_photographs(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(150):  # three chunks
        Image.fromarray(rng.integers(0, 255, (66, 70, 3), np.uint8)).save(photos / f"{i}.png")
    (photos / "7.png").write_bytes(b"no image")
    rows = assert_ray_equals_local(photos, tmp_path)
    assert rows.count(b"\n") == 151
    assert b'\n7.png,,,,,"this is not an image' in rows
