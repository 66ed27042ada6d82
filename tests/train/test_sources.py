"""What users hand over: image sets and folders of photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.photographs import paint_photos
from tests.sets import bright_set, unlabelled_set

from edgefiqa.data.image_set import open_image_set
from edgefiqa.errors import DataError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.train.sources import labelled_source, unlabelled_sources


def photos_of(manifest: Path) -> set[str]:
    return {json.loads(line)["image"] for line in manifest.read_text("utf-8").splitlines()}


def test_labelled_folder_at_two_sizes(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", range(12), labels=True)
    source = labelled_source(folder, None, tmp_path / "out", workers=1)
    sets = [open_image_set(source.at(size)) for size in (64, 80)]
    assert [(images.size, len(images)) for images in sets] == [(64, 12), (80, 12)]
    assert sets[0].keys == sets[1].keys
    assert sets[0].splits.tolist() == sets[1].splits.tolist()
    assert set(sets[0].splits) == {"train", "held_back"}
    assert sets[0].path == tmp_path / "out" / "labelled-64"
    np.testing.assert_allclose(sets[0].labels, sets[1].labels)
    # Asked for again, or by a resumed run, nothing is built.
    before = (sets[0].path / "meta.json").stat().st_mtime_ns
    again = labelled_source(folder, folder / "labels.csv", tmp_path / "out", workers=1)
    assert again.at(64) == sets[0].path
    assert (sets[0].path / "meta.json").stat().st_mtime_ns == before


def test_one_folder_is_cut_in_two_and_copies_stay_together(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", range(12))
    for number in range(0, 12, 2):
        with Image.open(folder / f"{number:02d}.png") as image:
            smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4))
            smaller.save(folder / f"{number:02d}-small.jpg", quality=85)
    (folder / "03-copy.png").write_bytes((folder / "03.png").read_bytes())
    first, second = unlabelled_sources([folder], tmp_path / "out", workers=1)
    halves = [photos_of(tmp_path / "out" / f"unlabelled-{n}-check" / "manifest.jsonl")
              for n in (1, 2)]  # fmt: skip
    assert not halves[0] & halves[1]
    assert all(len({name[:2] for name in half}) == 6 for half in halves)
    for number in range(0, 12, 2):
        pair = {f"{number:02d}.png", f"{number:02d}-small.jpg"}
        assert pair <= halves[0] or pair <= halves[1]
    assert len(halves[0] | halves[1]) == 18  # the exact copy is left out
    packed = [open_image_set(source.at(64)) for source in (first, second)]
    assert [{record["photo"] for record in images.records} for images in packed] == halves
    assert all(set(images.splits) == {"train"} for images in packed)


def test_two_folders_and_a_set(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", range(4))
    images = unlabelled_set(tmp_path / "set", count=4, seed=1)
    first, second = unlabelled_sources([folder, images.path], tmp_path / "out", workers=1)
    assert len(open_image_set(first.at(64))) == 4
    assert first.at(64) == tmp_path / "out" / "unlabelled-1-64"
    assert second.at(64) == images.path
    with pytest.raises(UsageError, match=r"set: 64\. Allowed: 80.*folder of photographs"):
        second.at(80)


def test_number_of_unlabelled_sets(tmp_path: Path) -> None:
    path = unlabelled_set(tmp_path / "set", count=4, seed=1).path
    for paths in ([], [path], [path] * 3):
        with pytest.raises(UsageError, match=r"two unlabelled sets.*--unlabelled twice"):
            unlabelled_sources(paths, tmp_path / "out", workers=1)


def test_more_than_one_per_cent_unreadable(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", range(6))
    (folder / "broken.png").write_bytes((folder / "00.png").read_bytes()[:200])
    other = unlabelled_set(tmp_path / "set", count=4, seed=1).path
    for paths in ([folder], [folder, other]):
        with pytest.raises(DataError, match=r"1 of 7 photos .* more than 1 %: broken\.png"):
            unlabelled_sources(paths, tmp_path / "out", workers=1)
    report = json.loads((tmp_path / "out" / "unlabelled-1-check" / "check.json").read_text())
    assert [finding["image"] for finding in report["findings"]] == ["broken.png"]


def test_copies_of_one_photograph_cannot_be_cut_in_two(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", [0])
    with Image.open(folder / "00.png") as image:
        image.save(folder / "copy.jpg", quality=90)
    with pytest.raises(DataError, match="cannot be cut in two"):
        unlabelled_sources([folder], tmp_path / "out", workers=1)


def test_labels_that_cannot_be_used(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", range(6), labels=True)
    images = bright_set(tmp_path / "set")
    with pytest.raises(UsageError, match="an image set has its labels"):
        labelled_source(images.path, folder / "labels.csv", tmp_path / "out", workers=1)
    text = (folder / "labels.csv").read_text(encoding="utf-8")
    (folder / "labels.csv").write_text(text.replace("0.5", "nan"), encoding="utf-8")
    with pytest.raises(DataError, match="no finite numbers: line 5"):
        labelled_source(folder, None, tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "labelled-check" / "manifest.jsonl").exists()


def test_paths_that_are_neither(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        labelled_source(tmp_path / "nothing", None, tmp_path / "out", workers=1)
    unfinished = bright_set(tmp_path / "set").path
    (unfinished / "meta.json").unlink()
    with pytest.raises(DataError, match=r"image set is unfinished.*goes on where it stopped"):
        labelled_source(unfinished, None, tmp_path / "out", workers=1)
    with pytest.raises(DataError, match="image set is unfinished"):
        unlabelled_sources([unfinished], tmp_path / "out", workers=1)


def test_changed_photographs_are_another_set(tmp_path: Path) -> None:
    folder = paint_photos(tmp_path / "photos", range(6), labels=True)
    first = labelled_source(folder, None, tmp_path / "out", workers=1).at(64)
    before = sha256_of(first / "index.jsonl")
    paint_photos(folder, [77], names=["00.png"])
    changed = labelled_source(folder, None, tmp_path / "out", workers=1)
    with pytest.raises(DataError, match="holds another set"):
        changed.at(64)
    assert sha256_of(first / "index.jsonl") == before
