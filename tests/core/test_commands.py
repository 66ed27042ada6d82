"""`data`, `train` and `label` through the command line's entry point: codes and messages."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from tests.photographs import paint_photos
from tests.sets import bright_set

from edgefiqa.cli import main
from edgefiqa.data.image_set import open_image_set
from edgefiqa.files import sha256_of
from edgefiqa.train.label_table import read_labels


class Done(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call ``edgefiqa`` in this process: what it imports is imported once."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["edgefiqa", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else int(bool(code)), shown.out, shown.err)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return paint_photos(tmp_path / "photos", range(6), labels=True)


@pytest.mark.parametrize(
    "command",
    ["data check", "data pack", "data degrade", "train", "label", "distill run"],
)
def test_help_says_how(command: str, call: Call) -> None:
    done = call(*command.split(), "--help")
    assert done.code == 0
    assert f"edgefiqa {command} " in done.out
    assert "xample" in done.out


def test_help_of_degrade_names_what_it_leaves_out(call: Call) -> None:
    shown = call("data", "degrade", "-h").out
    for text in ("--unlabelled", "--left-out", "banding,defocus", "--first-variant", "--faces"):
        assert text in shown


def test_degrade_without_labels(photos: Path, tmp_path: Path, call: Call) -> None:
    arguments = ("data", "degrade", photos, "--unlabelled", "--size", 64, "--workers", 1)
    done = call(*arguments, "--variants", 2, "--out", tmp_path / "set")
    assert done.code == 0, done.err
    assert "no face boxes: whole photos were used" in done.err
    assert "made 10 images of 6 photos" in done.err  # one of six is held back
    images = open_image_set(tmp_path / "set")
    assert {(record["label"], record["split"]) for record in images.records} == {(None, "train")}
    kinds = {step["name"] for r in images.records for step in r["degradations"]}
    assert kinds
    assert not kinds & {"banding", "defocus"}
    more = (*arguments, "--variants", 2, "--first-variant", 2, "--out", tmp_path / "more")
    assert call(*more).code == 0
    others = open_image_set(tmp_path / "more")
    assert {r["photo"] for r in others.records} == {r["photo"] for r in images.records}
    assert not {r["sha256"] for r in others.records} & {r["sha256"] for r in images.records}
    done = call(*arguments, "--variants", 3, "--out", tmp_path / "set")
    assert done.code == 1
    assert "error: this folder holds another set" in done.err


@pytest.mark.slow
def test_degrade_with_labels_and_one_kind_left_out(
    photos: Path, tmp_path: Path, call: Call
) -> None:
    counts = ("--variants", 1, "--held-back-variants", 1, "--held-out-variants", 1)
    arguments = ("--size", 161, "--left-out", " jpeg ", "--workers", 1, "--out", tmp_path / "set")
    done = call("data", "degrade", photos, *counts, *arguments)
    assert done.code == 0, done.err
    assert "(5 train, 1 held_back, 1 held_out_types)" in done.err
    images = open_image_set(tmp_path / "set")
    assert ((images.labels > 0) & (images.labels <= 1)).all()
    for record in images.records:
        names = {step["name"] for step in record["degradations"]}
        assert names == {"jpeg"} if record["split"] == "held_out_types" else "jpeg" not in names


ALL = (
    "banding,color_cast,contrast,defocus,gaussian_blur,jpeg,low_light,motion_blur,occlusion,"
    "overexposure,resample,sensor_noise,shot_noise,webp"
)


@pytest.mark.parametrize(
    ("arguments", "code", "fault"),
    [
        (("--left-out", "rain,defocus"), 2, "unknown degradation: rain. Allowed: banding,"),
        (("--left-out", ALL), 2, "every degradation is left out"),
        (("--size", "0", "--unlabelled"), 2, "the input size is not usable: 0"),
        (("--size", "64"), 2, "cannot be labelled: 64. Allowed: 161 or more"),
        (("--variants", "0"), 2, "--variants"),
        (("--faces", "nothing.csv"), 1, "cannot read face boxes"),
    ],
)
def test_degrade_says_what_is_wrong(
    arguments: tuple[str, ...], code: int, fault: str, photos: Path, tmp_path: Path, call: Call
) -> None:
    done = call("data", "degrade", photos, "--out", tmp_path / "set", *arguments)
    assert done.code == code
    assert fault in done.err
    assert "internal fault" not in done.err
    assert not (tmp_path / "set").exists()


def test_degrade_needs_photographs(photos: Path, tmp_path: Path, call: Call) -> None:
    done = call("data", "degrade", tmp_path / "nothing", "--out", tmp_path / "set")
    assert (done.code, "there is no such folder" in done.err) == (1, True)
    (tmp_path / "empty").mkdir()
    done = call("data", "degrade", tmp_path / "empty", "--out", tmp_path / "set")
    assert done.code == 2
    assert "internal fault" not in done.err
    (photos / "03.png").write_bytes((photos / "03.png").read_bytes()[:300])
    done = call("data", "degrade", photos, "--unlabelled", "--out", tmp_path / "set")
    assert done.code == 1
    assert "error: the photo cannot be read" in done.err
    assert str(photos / "03.png") in done.err


def running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_killed_command_leaves_no_workers(photos: Path, tmp_path: Path) -> None:
    arguments = ("--unlabelled", "--variants", 200, "--workers", 2, "--out", tmp_path / "set")
    command = [sys.executable, "-m", "edgefiqa", "data", "degrade", photos, *arguments]
    process = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not list((tmp_path / "set" / "shards").glob(".staged-*")):
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    patience = time.monotonic() + 60
    while running(process.pid) and time.monotonic() < patience:
        time.sleep(0.1)
    left = running(process.pid)
    if left:
        os.killpg(process.pid, signal.SIGKILL)
    assert not left


def recipe(path: Path, **changes: object) -> Path:
    values = {
        "model": "timm:test_resnet",
        "phases": [{"steps": 3, "batch": 2, "crop": 32}],
        "rate": 1e-3,
        "schedule": {"kind": "cosine"},
        "threads": 1,
    }
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path


def test_from_photographs_and_a_label_file_to_pseudo_labels(tmp_path: Path, call: Call) -> None:
    """`data check`, `data pack`, `train` and `label`, each taking what the one before left."""
    folder = paint_photos(tmp_path / "photos", range(20), labels=True)
    done = call("data", "check", folder, "--workers", 1, "--out", tmp_path / "checked")
    assert done.code == 0, done.err
    assert "20 photos in 20 clusters (16 train, 4 held_back)" in done.err
    manifest = tmp_path / "checked" / "manifest.jsonl"
    place = ("--size", 64, "--out", tmp_path / "set", "--workers", 1)
    done = call("data", "pack", folder, "--manifest", manifest, *place)
    assert done.code == 0, done.err
    assert "packed 20 photos" in done.err

    training = (recipe(tmp_path / "recipe.yaml"), "--data", tmp_path / "set", "--out")
    done = call("train", *training, tmp_path / "teacher")
    assert done.code == 0, done.err
    digest = sha256_of(tmp_path / "teacher" / "model.safetensors")
    assert f"model.safetensors (sha256 {digest[:16]}…)" in done.out
    assert done.out.startswith("held_back: SRCC ")

    (folder / "broken.png").write_bytes(b"no photo")
    labelling = ("label", folder, "--model", tmp_path / "teacher", "--workers", 1, "--views", 2)
    done = call(*labelling, "--out", tmp_path / "strict")
    assert done.code == 1
    assert "1 of 21 images have no score, the first is broken.png" in done.err
    loose = ("--max-unreadable", 0.1, "--filter", 0.5, "--calibrate", tmp_path / "set")
    done = call(*labelling, *loose, "--out", tmp_path / "labels")
    assert done.code == 0, done.err
    assert "20 scores, 1 without" in done.err
    assert "kept.csv holds 10 of them" in done.err
    rows, meta = read_labels(tmp_path / "labels")
    assert meta["models"] == [digest]
    assert [row.image for row in rows if row.error] == ["broken.png"]


def test_data_check_as_json_and_with_faults(photos: Path, call: Call) -> None:
    done = call("data", "check", photos, "--json", "--workers", 1)
    assert done.code == 0
    assert json.loads(done.out)["kept"] == 6
    done = call("data", "check", photos, "--unlabelled", "--labels", photos / "labels.csv")
    assert (done.code, "--unlabelled excludes --labels" in done.err) == (2, True)
    (photos / "labels.csv").write_text("image,score\n00.png,1\n01.png,1\n", encoding="utf-8")
    done = call("data", "check", photos, "--workers", 1)
    assert done.code == 1
    assert "the labels are constant" in done.err


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rate": -1}, "rate: Input should be greater than 0"),
        ({"loss": "nonsense"}, "loss"),
        ({"model": "nonsense"}, "nonsense"),
        ({"phases": [{"steps": 1, "batch": 2, "crop": 96}]}, "96"),
    ],
)
def test_train_says_what_is_wrong(
    changes: dict[str, object], fault: str, tmp_path: Path, call: Call
) -> None:
    images = bright_set(tmp_path / "set", train=4, held=2)
    file = recipe(tmp_path / "recipe.yaml", **changes)
    done = call("train", file, "--data", images.path, "--out", tmp_path / "out")
    assert done.code in (1, 2)
    assert done.err.splitlines()[-1].startswith("error: ")
    assert "internal fault" not in done.err
    assert fault in done.err


def test_commands_that_lack_their_files(tmp_path: Path, call: Call) -> None:
    file, nothing = recipe(tmp_path / "recipe.yaml"), tmp_path / "nothing"
    out = ("--out", tmp_path / "out")
    for arguments, fault in (
        (("train", file, "--data", nothing, *out), "nothing. Next"),
        (("train", nothing, "--data", nothing, *out), "cannot read the recipe"),
        (("label", tmp_path, "--model", nothing, *out), "no trained scorer"),
        (("data", "pack", nothing, *out), "there is no such folder"),
        (("distill", "run", file, "--labelled", nothing, "--unlabelled", nothing, *out), "faults"),
    ):
        done = call(*arguments)
        assert done.code == 1, done.err
        assert fault in done.err
