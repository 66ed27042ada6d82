import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from edgefiqa.cli import app
from edgefiqa.data import image_set, pack
from edgefiqa.data.check import check_labelled
from edgefiqa.data.check_report import write_report
from edgefiqa.data.image_set import Split, open_image_set
from edgefiqa.data.pack import pack_photos
from edgefiqa.errors import DataError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.preprocess import resize_and_crop


def paint(seed: int, width: int = 90, height: int = 70) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of several shapes and modes; one stored lying on its side."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number in range(6):
        paint(number, 80 + 7 * number, 100 - 5 * number).save(folder / f"{number}.png")
    paint(6).convert("L").save(folder / "deep" / "grey.v1.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    paint(7).save(folder / "side.jpg", exif=exif)
    return folder


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the workers as threads: starting a process takes a second, and cannot be patched."""
    if "killed" in request.node.name:
        return

    class Threads(ThreadPoolExecutor):
        def __init__(self, workers: int, **_: object) -> None:
            super().__init__(1)

    monkeypatch.setattr(image_set, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(pack, "_PHOTOS_PER_SHARD", 3)


def write_manifest(folder: Path, **changes: Any) -> Path:
    """Label each photo with its number times 0.1; hold the last two back."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.[jp][pn]g"))
    rows = [
        {
            "image": name,
            "score": number / 10,
            "range": [0, 1],
            "sha256": sha256_of(folder / name),
            "cluster": number,
            "split": "train" if number < len(names) - 2 else "held_back",
            "line": number + 2,
            **changes,
        }
        for number, name in enumerate(names)
    ]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_images_are_the_photos_resized_by_torchvision_s_rule(photos: Path, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision.transforms.v2")
    images = pack_photos(photos, None, tmp_path / "set", 48)
    assert len(images) == 8
    for row, record in enumerate(images.records):
        with Image.open(photos / record["photo"]) as photo:
            upright = ImageOps.exif_transpose(photo).convert("RGB")
        resize = torchvision.Resize(
            48, interpolation=torchvision.InterpolationMode.BILINEAR, antialias=True
        )
        assert np.array_equal(images.image(row), np.asarray(resize(upright)))
        assert min(images.image(row).shape[:2]) == 48
        short, long = sorted(upright.size)
        assert max(images.image(row).shape[:2]) == int(48 * long / short)
        square = resize_and_crop(upright, 48)
        height, width = images.image(row).shape[:2]
        top, left = round((height - 48) / 2), round((width - 48) / 2)
        assert np.array_equal(images.image(row)[top : top + 48, left : left + 48], square)
    assert np.isnan(images.labels).all()
    assert set(images.splits) == {"train"}
    assert images.meta["label_scale"] is None


def test_records_carry_what_the_manifest_says(photos: Path, tmp_path: Path) -> None:
    images = pack_photos(photos, write_manifest(photos), tmp_path / "set", 32)
    assert images.labels.tolist() == pytest.approx([n / 10 for n in range(8)])
    assert images.rows(Split.HELD_BACK).tolist() == [6, 7]
    assert [record["cluster"] for record in images.records] == list(range(8))
    assert [record["line"] for record in images.records] == list(range(2, 10))
    assert images.keys[6:] == ["0000006-grey_v1", "0000007-side"]
    assert images.records[6]["photo"] == "deep/grey.v1.png"
    assert images.meta["label_scale"]["source"] == "the layout's range"


@pytest.mark.parametrize("bounds", [[-1, 4], None])
def test_labels_are_stretched_to_nought_to_one(
    bounds: list[int] | None, photos: Path, tmp_path: Path
) -> None:
    images = pack_photos(photos, write_manifest(photos, range=bounds), tmp_path / "set", 32)
    scores = np.arange(8) / 10
    # Without bounds the extremes of the training labels count: 0 and 0.5.
    expected = (scores + 1) / 5 if bounds else scores / 0.5
    assert images.labels == pytest.approx(expected)
    scale = images.meta["label_scale"]
    restored = scale["low"] + images.labels * (scale["high"] - scale["low"])
    assert restored == pytest.approx([record["score"] for record in images.records])


def test_a_check_s_manifest_is_packed(photos: Path, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "IMAGE PATH,JOD\n" + "".join(f".\\{name},{n - 3}\n" for n, name in enumerate(names))
    )
    write_report(check_labelled(photos, labels, workers=1), tmp_path)
    images = pack_photos(photos, tmp_path / "manifest.jsonl", tmp_path / "set", 32)
    assert [record["photo"] for record in images.records] == names
    assert [record["score"] for record in images.records] == [-3, -2, -1, 0, 1, 2]
    train = images.labels[images.rows(Split.TRAIN)]
    assert (train.min(), train.max()) == (0, 1)


def test_one_unreadable_in_a_hundred_is_skipped_two_stop(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    paint(0, 20, 20).save(folder / "000.bmp")
    for number in range(1, 100):
        shutil.copy(folder / "000.bmp", folder / f"{number:03d}.bmp")
    (folder / "050.bmp").write_bytes((folder / "050.bmp").read_bytes()[:300])
    images = pack_photos(folder, None, tmp_path / "one", 16)
    assert len(images) == 99
    skipped = images.meta["skipped"]
    assert [(record["photo"], record["key"]) for record in skipped] == [("050.bmp", "0000050-050")]
    assert "truncated" in skipped[0]["error"]
    assert not (tmp_path / "one" / "unreadable.jsonl").exists()

    (folder / "060.bmp").write_bytes(b"no image")
    for _ in range(2):  # trying again does not get round it
        with pytest.raises(DataError, match=r"more than 1 %.*2 of 100.*050\.bmp, 060\.bmp"):
            pack_photos(folder, None, tmp_path / "two", 16)
        with pytest.raises(DataError, match="no finished image set"):
            open_image_set(tmp_path / "two")
    # It stopped there: the shards behind the second fault were not all made.
    assert len(list((tmp_path / "two" / "shards").glob("*.tar"))) < 34


def test_photos_that_changed_after_the_check_are_not_packed(photos: Path, tmp_path: Path) -> None:
    manifest = write_manifest(photos)
    paint(77).save(photos / "3.png")
    with pytest.raises(DataError, match=r"1 of 8.*3\.png"):
        pack_photos(photos, manifest, tmp_path / "set", 32)


def test_missing_photos_count_as_unreadable(photos: Path, tmp_path: Path) -> None:
    manifest = write_manifest(photos)
    (photos / "2.png").unlink()
    with pytest.raises(DataError, match=r"1 of 8.*2\.png"):
        pack_photos(photos, manifest, tmp_path / "set", 32)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "is empty"),
        ("{", "line 1"),
        ('{"image": "a.png", "score": 1}', "line 1: KeyError"),
        ('{"image": "a.png", "score": "1", "split": "train", "cluster": 1}', "line 1"),
        ('{"image": "a.png", "score": NaN, "split": "train", "cluster": 1}', "line 1"),
        (
            '{"image": "a", "score": 1, "range": [1, 1], "split": "train", "cluster": 1}',
            "scale of the labels is empty",
        ),
        ('{"image": "a.png", "score": 1, "split": "test", "cluster": 1}', "line 1.*'test'"),
        ('{"image": "../a.png", "score": 1, "split": "train", "cluster": 1}', "outside"),
        ('{"image": "/a.png", "score": 1, "split": "train", "cluster": 1}', "outside"),
        ('{"image": "a.png", "score": 1, "split": "train", "cluster": 1}', "constant"),
    ],
)
def test_damaged_manifests_are_refused(line: str, message: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        pack_photos(tmp_path, manifest, tmp_path / "set", 32)
    assert not (tmp_path / "set").exists()


def test_other_faults_of_the_input(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        pack_photos(tmp_path / "absent", None, tmp_path / "set")
    with pytest.raises(DataError, match="cannot be read"):
        pack_photos(photos, tmp_path / "absent.jsonl", tmp_path / "set")
    with pytest.raises(UsageError, match="16 to 4096"):
        pack_photos(photos, None, tmp_path / "set", 0)
    pack_photos(photos, None, tmp_path / "set", 32)
    with pytest.raises(DataError, match="another set"):
        pack_photos(photos, None, tmp_path / "set", 48)
    paint(50).save(photos / "0.png")
    with pytest.raises(DataError, match="another set"):
        pack_photos(photos, None, tmp_path / "set", 32)


def test_a_full_disk_is_named_and_packing_goes_on_after_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack_photos(photos, None, tmp_path / "whole", 32)
    add, calls = image_set._add, []

    def fill(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 8:  # in the middle of the second shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(image_set, "_add", fill)
        with pytest.raises(DataError, match=r"the disk is full.*free space"):
            pack_photos(photos, None, tmp_path / "set", 32)
    assert sorted(contents(tmp_path / "set")) == ["plan.json", "shards/00000.tar"]
    assert not list((tmp_path / "set" / "shards").glob(".staged-*"))
    resumed = pack_photos(photos, None, tmp_path / "set", 32)
    assert resumed.identity == whole.identity
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed_while_packing_and_started_again_gives_the_same_bytes(tmp_path: Path) -> None:
    folder, shards = tmp_path / "photos", tmp_path / "set" / "shards"
    folder.mkdir()
    paint(0, 900, 700).save(folder / "000.jpg", quality=95)
    for number in range(1, 200):
        shutil.copy(folder / "000.jpg", folder / f"{number:03d}.jpg")
    program = (
        "import sys; from pathlib import Path; from edgefiqa.data.pack import pack_photos;"
        "pack_photos(Path(sys.argv[1]), None, Path(sys.argv[2]), 64, 1)"
    )
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "set")]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(shards.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)  # the workers too, as an out-of-memory killer might
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(DataError, match="no finished image set"):
        open_image_set(tmp_path / "set")
    first = next(iter(shards.glob("*.tar")))
    before = (first.stat().st_mtime_ns, sha256_of(first))

    pack_photos(folder, None, tmp_path / "set", 64, 1)
    pack_photos(folder, None, tmp_path / "whole", 64, 2)
    assert (first.stat().st_mtime_ns, sha256_of(first)) == before
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_command_packs_what_the_check_left(photos: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "set"), "--size", "32", "--workers", "1"]
    run = CliRunner().invoke(app, ["data", "pack", str(photos), *out])
    assert run.exit_code == 0, run.output
    assert "no manifest" in run.stderr
    assert "packed 8 photos" in run.stderr
    write_manifest(photos)
    run = CliRunner().invoke(app, ["data", "pack", str(photos), *out])
    assert isinstance(run.exception, DataError)  # with labels it is another set
    run = CliRunner().invoke(app, ["data", "pack", "--help"])
    assert "edgefiqa data pack vquala/train" in run.stdout
