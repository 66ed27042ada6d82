import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgefiqa.data import corpus as module
from edgefiqa.data.corpus import (
    CorpusPlan,
    Split,
    build_corpus,
    open_corpus,
)
from edgefiqa.data.degrade import HELD_OUT
from edgefiqa.data.photographs import cluster_photos, read_faces
from edgefiqa.data.reference_labels import METRICS, measure, reference_label
from edgefiqa.errors import DataError
from edgefiqa.preprocess import resize_and_crop

PLAN = CorpusPlan(size=192, train_variants=2, held_back_variants=1, held_back_share=0.5,
                  photos_per_shard=2)  # fmt: skip


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


def build(photos: Path, out: Path) -> module.Corpus:
    return build_corpus(photos, photos / "faces.csv", out, plan=PLAN, workers=1)


@pytest.fixture(scope="module")
def built(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "corpus"
    build(photos, out)
    return out


def test_mirrored_copy_is_a_near_duplicate(photos: Path) -> None:
    paths = [photos / f"{number}.png" for number in range(5)]
    clusters = cluster_photos(paths, duplicate_bits=60)
    assert clusters[4] == clusters[0]
    assert len(set(clusters)) == 4


@pytest.mark.slow
def test_splits_share_no_cluster(built: Path) -> None:
    corpus = open_corpus(built)
    photos = {
        split: {record["photo"] for record in corpus.records if record["split"] == split}
        for split in Split
    }
    assert photos[Split.TRAIN]
    assert photos[Split.HELD_BACK] == photos[Split.HELD_OUT_TYPES]
    assert not photos[Split.TRAIN] & photos[Split.HELD_BACK]
    assert ("0.png" in photos[Split.TRAIN]) == ("4.png" in photos[Split.TRAIN])
    assert corpus.meta["splits"] == {split.value: len(corpus.rows(split)) for split in Split}


@pytest.mark.slow
def test_kinds_that_are_held_out_stay_out(built: Path) -> None:
    for record in open_corpus(built).records:
        kinds = {step["name"] for step in record["degradations"]}
        if record["split"] == Split.HELD_OUT_TYPES:
            assert kinds <= HELD_OUT
            assert len(kinds) == 1
        else:
            assert not kinds & HELD_OUT


@pytest.mark.slow
def test_labels_are_those_of_the_stored_images(built: Path, photos: Path) -> None:
    corpus = open_corpus(built)
    assert corpus.images.shape == (len(corpus.records), 192, 192, 3)
    for record in corpus.records[:4]:
        with Image.open(photos / record["photo"]) as photo:
            original = resize_and_crop(photo.convert("RGB").crop(record["crop"]), 192)
        qualities = measure(np.asarray(corpus.images[record["row"]]), original)
        assert corpus.labels[record["row"]] == pytest.approx(reference_label(qualities), abs=1e-5)
        if not record["degradations"]:
            assert record["label"] == 1


@pytest.mark.slow
def test_interrupted_build_goes_on_to_the_same_corpus(
    built: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_finish", die)
        with pytest.raises(KeyboardInterrupt):
            build(photos, tmp_path)
    with pytest.raises(DataError, match="no finished corpus"):
        open_corpus(tmp_path)
    (tmp_path / "shards" / "00001.jsonl").unlink()
    resumed, whole = build(photos, tmp_path), open_corpus(built)
    assert np.array_equal(resumed.images, whole.images)
    assert resumed.records == whole.records
    assert resumed.meta == whole.meta


@pytest.mark.slow
def test_another_plan_needs_another_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"size": 7}), encoding="utf-8")
    with pytest.raises(DataError, match="another plan"):
        build(photos, tmp_path)


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
        build_corpus(tmp_path, photos / "faces.csv", tmp_path / "out", plan=PLAN)


def test_label_runs_from_nought_to_one() -> None:
    assert reference_label(dict.fromkeys(METRICS, 1.0)) == 1
    assert reference_label(dict.fromkeys(METRICS, 0.0)) == 0
    levels = [reference_label(dict.fromkeys(METRICS, q)) for q in np.linspace(0.5, 1, 9)]
    assert levels == sorted(levels)


def test_measure_refuses_what_it_cannot_compare() -> None:
    small = np.zeros((100, 100, 3), np.uint8)
    with pytest.raises(DataError, match="161"):
        measure(small, small)
    with pytest.raises(DataError, match="against"):
        measure(np.zeros((200, 200, 3), np.uint8), np.zeros((200, 201, 3), np.uint8))
