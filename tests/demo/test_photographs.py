"""Which photographs a demo takes, and that both sides of the split get different ones."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefiqa.data.near_duplicates import cluster_photos
from edgefiqa.demo.image_sets import build_image_sets
from edgefiqa.demo.photographs import bundled_photos, choose_photographs
from edgefiqa.demo.settings import Settings
from edgefiqa.errors import DataError, UsageError
from edgefiqa.measuring.image_source import open_source


def write_photos(folder: Path, count: int, *, size: int = 64, seed: int = 5) -> list[Path]:
    """Photographs that differ: smooth noise, each with another seed."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        paths.append(folder / f"photo{number:02d}.png")
        photo.save(paths[-1])
    return paths


def test_bundled_photographs_differ_and_come_with_packages() -> None:
    paths = bundled_photos()
    assert len(paths) == 12
    skimage = importlib.util.find_spec("skimage")
    sklearn = importlib.util.find_spec("sklearn")
    assert skimage is not None and skimage.origin and sklearn is not None and sklearn.origin
    homes = (Path(skimage.origin).parent, Path(sklearn.origin).parent)
    assert all(any(path.is_relative_to(home) for home in homes) for path in paths)
    assert len(np.unique(cluster_photos(paths, duplicate_bits=60))) == len(paths)
    chosen = choose_photographs(None, 100)
    assert list(chosen.files.values()) == paths
    assert "not the faces" in chosen.text


def test_a_folder_is_sampled_and_damaged_files_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_photos(folder, 10)
    write_photos(folder / "below", 10, seed=6)
    (folder / "photo03.png").write_bytes(b"no picture")
    chosen = choose_photographs(folder, 100)
    assert len(chosen.files) == 19
    assert chosen.skipped == 1
    assert chosen.text == "19 of the 20 photographs in mine (1 more could not be read)"
    assert chosen.files["below_photo00.png"] == folder / "below" / "photo00.png"
    few = choose_photographs(folder, 9)
    assert 8 <= len(few.files) <= 9
    assert set(few.files) <= set(chosen.files)


def test_too_few_that_differ_are_joined_by_the_bundled_ones(tmp_path: Path) -> None:
    (first,) = write_photos(tmp_path / "mine", 1)
    for number in range(20):
        (tmp_path / "mine" / f"copy{number}.png").write_bytes(first.read_bytes())
    chosen = choose_photographs(tmp_path / "mine", 100)
    assert len(chosen.files) == 21 + 12
    assert "too few different ones" in chosen.text


def test_face_boxes_choose_and_travel(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder, 12)
    rows = [f"photo{number:02d}.png,{number},2,30,31" for number in range(10)]
    table = "\n".join(["name,face_x,face_y,face_w,face_h", *rows])
    (tmp_path / "faces.csv").write_text(table + "\n")
    chosen = choose_photographs(folder, 9)
    assert len(chosen.files) == 9
    chosen.copy_to(tmp_path / "out")
    with (tmp_path / "out" / "faces.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["name"] for row in found] == list(chosen.files)
    assert {int(row["face_x"]) for row in found} <= set(range(10))
    (tmp_path / "faces.csv").write_text("name,x\nphoto00.png,1\n")
    with pytest.raises(DataError, match="cannot read face boxes"):
        choose_photographs(folder, 9)


def test_a_folder_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no photo in this folder"):
        choose_photographs(tmp_path, 9)


@pytest.mark.slow
def test_no_photograph_is_on_both_sides(tmp_path: Path) -> None:
    photographs = choose_photographs(None, 100)
    settings = Settings(calibration=16, evaluation=20)
    images = build_image_sets(photographs, tmp_path / "set", size=176, settings=settings)
    sources = [open_source(spec) for spec in (images.calibration, images.evaluation)]
    assert [len(source) for source in sources] == [16, 20]
    names = [{key.rpartition("-")[0] for key in source.keys} for source in sources]
    assert not names[0] & names[1]
    assert len(names[0]) == 7 and len(names[1]) == 5
    labels = sources[1].labels
    assert np.isfinite(labels).all()
    assert np.unique(labels).size > 10
    assert "12 photographs" in images.describe(176).source
    assert not (tmp_path / "set.photographs").exists()
    before = (tmp_path / "set" / "index.jsonl").stat().st_mtime_ns
    build_image_sets(photographs, tmp_path / "set", size=176, settings=settings)
    assert (tmp_path / "set" / "index.jsonl").stat().st_mtime_ns == before
