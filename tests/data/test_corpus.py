import csv
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgefiqa.data.corpus import CorpusPlan, build_corpus, list_faces, parse_kinds
from edgefiqa.data.degrade import DEGRADATIONS, HELD_OUT, DegradationName, degrade, generator
from edgefiqa.data.image_set import ImageSet, Split, open_image_set
from edgefiqa.data.photographs import read_faces
from edgefiqa.data.reference_labels import METRICS, measure, reference_label
from edgefiqa.errors import DataError, UnknownNameError, UsageError
from edgefiqa.files import sha256_of

PLAN = CorpusPlan(size=192, variants=2, held_back_variants=1, held_out_variants=1,
                  held_back_share=0.5, photos_per_shard=2)  # fmt: skip


def paint(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    image = coarse.resize((300, 250), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).ellipse((100, 60, 200, 190), fill=(220, 180, 150), outline=(0, 0, 0))
    return image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs and a mirrored copy of the first, with face boxes."""
    folder = tmp_path_factory.mktemp("photos")
    pictures = [paint(seed) for seed in range(4)]
    pictures.append(pictures[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    with (folder / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "face_x", "face_y", "face_w", "face_h"])
        for number, picture in enumerate(pictures):
            picture.save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", 100, 60, 100, 130])
    return folder


@pytest.fixture(scope="module")
def built(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    out = tmp_path_factory.mktemp("built") / "corpus"
    return build_corpus(photos, out, plan=PLAN, workers=0)


def test_splits_share_no_cluster(built: ImageSet) -> None:
    photos = {
        split: {record["photo"] for record in built.records if record["split"] == split}
        for split in Split
    }
    assert photos[Split.TRAIN]
    assert photos[Split.HELD_BACK] == photos[Split.HELD_OUT_TYPES]
    assert not photos[Split.TRAIN] & photos[Split.HELD_BACK]
    assert ("0.png" in photos[Split.TRAIN]) == ("4.png" in photos[Split.TRAIN])
    assert len(built) == 2 * len(photos[Split.TRAIN]) + 3 * len(photos[Split.HELD_BACK])


def test_kinds_that_are_left_out_stay_out(built: ImageSet) -> None:
    assert {record["split"] for record in built.records} >= {Split.TRAIN, Split.HELD_OUT_TYPES}
    for record in built.records:
        kinds = {step["name"] for step in record["degradations"]}
        if record["split"] == Split.HELD_OUT_TYPES:
            assert kinds <= HELD_OUT
            assert len(kinds) == 1
        else:
            assert not kinds & HELD_OUT


def test_labels_follow_the_distances_of_the_record(built: ImageSet) -> None:
    assert built.meta["label"].startswith("haarpsi+")
    for row, record in enumerate(built.records):
        assert built.image(row).shape == (192, 192, 3)
        assert built.labels[row] == pytest.approx(reference_label(record["distances"]), abs=1e-5)
        assert (record["label"] == 1) == (not record["degradations"])


def test_other_variants_share_no_image_and_need_no_labels(
    built: ImageSet, photos: Path, tmp_path: Path
) -> None:
    plan = CorpusPlan(size=192, variants=2, first_variant=2, held_back_variants=0,
                      held_out_variants=0, labelled=False, held_back_share=0.5)  # fmt: skip
    more = build_corpus(photos, tmp_path, plan=plan, workers=0)
    assert set(more.splits) == {"train"}
    assert np.isnan(more.labels).all()
    known = {record["sha256"] for record in built.records}
    assert not known & {record["sha256"] for record in more.records}
    trained = {record["photo"] for record in built.records if record["split"] == "train"}
    assert {record["photo"] for record in more.records} == trained


def test_another_plan_needs_another_folder(built: ImageSet, photos: Path) -> None:
    with pytest.raises(DataError, match="another set"):
        build_corpus(photos, built.path, plan=CorpusPlan(size=192, seed=7), workers=0)


def test_without_boxes_whole_photos_are_used(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    with Image.open(photos / "1.png") as image:
        image.save(tmp_path / "only" / "1.png")
    assert list_faces(tmp_path / "only", None) == [(tmp_path / "only" / "1.png", None)]
    plan = CorpusPlan(size=192, variants=1, labelled=False, held_back_share=0.0)
    made = build_corpus(tmp_path / "only", tmp_path / "set", plan=plan, workers=0)
    assert made.meta["face_boxes"] == 0
    assert made.records[0]["crop"] == [0, 0, 300, 250]


COMMAND = """
import sys
from pathlib import Path
from edgefiqa.data.corpus import CorpusPlan, build_corpus
plan = CorpusPlan(size=192, variants=20, labelled=False, photos_per_shard=1, held_back_share=0.0)
build_corpus(Path(sys.argv[1]), Path(sys.argv[2]), plan=plan, workers=0)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_set(photos: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", COMMAND, str(photos)]
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
    while not list(killed.glob("shards/*.tar")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (killed / "meta.json").exists()
    for out in (killed, whole):
        subprocess.run([*command, str(out)], check=True, stderr=subprocess.DEVNULL)
    assert sha256_of(killed) == sha256_of(whole)
    assert len(open_image_set(killed)) == 100


def test_faults_of_the_input_are_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv"):
        read_faces(tmp_path / "absent.csv")
    (tmp_path / "faces.csv").write_text("name,x\na.jpg,3\n", encoding="utf-8")
    with pytest.raises(DataError, match="face_x"):
        read_faces(tmp_path / "faces.csv")
    (tmp_path / "faces.csv").write_text("name,face_x,face_y,face_w,face_h\n", encoding="utf-8")
    with pytest.raises(DataError, match="no face boxes"):
        read_faces(tmp_path / "faces.csv")
    with pytest.raises(DataError, match="photographs are missing"):
        build_corpus(tmp_path, tmp_path / "out", faces_csv=photos / "faces.csv", plan=PLAN)
    with pytest.raises(UnknownNameError, match=r"scratches.*banding"):
        parse_kinds("jpeg,scratches")
    with pytest.raises(UsageError, match="every degradation"):
        parse_kinds(",".join(DEGRADATIONS))


def test_kinds_are_read_in_any_order() -> None:
    assert parse_kinds(" webp,banding ") == (DegradationName.BANDING, DegradationName.WEBP)
    assert parse_kinds("") == ()


def test_label_runs_from_nought_to_one() -> None:
    assert reference_label(dict.fromkeys(METRICS, 0.0)) == 1
    assert reference_label(dict.fromkeys(METRICS, 1.0)) == 0
    levels = [reference_label(dict.fromkeys(METRICS, d)) for d in np.linspace(0, 0.25, 9)]
    assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize("kind", list(DegradationName))
def test_label_falls_with_severity(kind: DegradationName) -> None:
    photo = np.asarray(paint(3))
    texture = np.random.default_rng(0).normal(0, 6, photo.shape)
    photo = np.clip(photo + texture, 0, 255).astype(np.uint8)
    labels = [
        reference_label(measure(degrade(photo, [(kind, severity)], generator(1, "a", 0))[0], photo))
        for severity in (0.0, 0.3, 0.6, 1.0)
    ]
    assert all(high > low for high, low in pairwise(labels)), labels
    assert labels[0] - labels[-1] > 0.1


def test_measure_refuses_what_it_cannot_compare() -> None:
    small = np.zeros((100, 100, 3), np.uint8)
    with pytest.raises(DataError, match="161"):
        measure(small, small)
    with pytest.raises(DataError, match="against"):
        measure(np.zeros((200, 200, 3), np.uint8), np.zeros((200, 201, 3), np.uint8))
