"""The command line, run as users run it: output, exit codes, one clear line for each fault."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Run

from edgefiqa.manifest import Manifest
from edgefiqa.models import build
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes import load


def artifact(export_dir: Path, target: str) -> Path:
    return next(
        export_dir / entry.file
        for entry in Manifest.load(export_dir).artifacts
        if entry.target == target
    )


def test_models_as_json(run_cli: Run) -> None:
    done = run_cli("models", "--size", "288", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(rows) == [
        "efficient-fiqa-student",
        "efficient-fiqa-teacher",
        "mspt",
        "ensemble",
        "mobilenetv2",
    ]
    student = rows["efficient-fiqa-student"]
    assert (student["parameters"], student["gflops"]) == (1_179_641, 0.3313)
    assert student["published_gflops"] == 0.3313
    assert rows["mspt"]["published_gflops"] is None  # printed at 640 only


def test_models_as_a_table(run_cli: Run) -> None:
    done = run_cli("models")
    assert done.returncode == 0, done.stderr
    for text in ("1,179,641", "0.3313", "1,518,881", "0.4687", "86,874,553", "50.13"):
        assert text in done.stdout


def test_score_default_student(run_python: Run, portrait: Path) -> None:
    done = run_python("score", portrait, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["image"] == str(portrait)
    assert row["error"] is None
    expected = load("default").score(load_tensor(portrait, 288))[0]
    assert row["score"] == pytest.approx(float(expected), abs=1e-5)


def truncated(path: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((200, 200), 60).convert("RGB").save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[:3000])


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), (40 * i, 0, 0)) for i in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def bomb(path: Path) -> None:
    Image.new("1", (40_000, 40_000)).save(path)


def sliver(path: Path) -> None:
    Image.new("RGB", (1, 60_000)).save(path)


BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.jpg": (lambda path: path.write_bytes(b""), "empty|zero"),
    "text.png": (lambda path: path.write_text("hello"), "not an image|no image|no photo"),
    "truncated.jpg": (truncated, "truncated|cut|incomplete"),
    "animated.gif": (animated, "frames|animated|animation"),
    "bomb.png": (bomb, "pixels"),
    "sliver.png": (sliver, "pixels|narrow|long"),
    "folder.jpg": (lambda _path: None, "no such|not exist|missing"),
}


@pytest.mark.slow
def test_bad_images_are_lines_and_the_others_are_scored(
    run_python: Run, export_dir: Path, portrait: Path, tmp_path: Path
) -> None:
    import re

    bad = [tmp_path / name for name in BAD_IMAGES]
    for path in bad:
        BAD_IMAGES[path.name][0](path)
    last = tmp_path / "last.png"
    shutil.copy(portrait, last)
    model = artifact(export_dir, "tflite")
    done = run_python("score", "--model", model, "--json", portrait, *bad, last)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "7 of 9 could not be scored" in done.stderr
    rows = json.loads(done.stdout)
    assert [row["image"] for row in rows] == [str(p) for p in (portrait, *bad, last)]
    assert rows[0]["score"] == rows[-1]["score"] is not None
    for path, row in zip(bad, rows[1:-1], strict=True):
        assert row["score"] is None
        assert path.name in row["error"]
        assert re.search(BAD_IMAGES[path.name][1], row["error"], re.IGNORECASE), row["error"]
        assert "\n" not in row["error"]


@pytest.mark.slow
def test_thin_images_within_the_limit_are_scored(
    run_cli: Run, export_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "thin.png"
    Image.fromarray(np.arange(90, dtype=np.uint8)[None]).save(path)
    done = run_cli("score", "--model", artifact(export_dir, "onnx"), path, "--json")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_folders_globs_and_csv(
    run_cli: Run, export_dir: Path, portrait: Path, tmp_path: Path
) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for name in ("b.png", "a.png"):
        shutil.copy(portrait, album / name)
    model = artifact(export_dir, "onnx")
    done = run_cli("score", "--csv", "--model", model, album, f"{tmp_path}/*.png")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.png", "portrait.png"]
    assert len({row["score"] for row in rows}) == 1
    plain = run_cli("score", "--model", model, album)
    assert len(plain.stdout.splitlines()) == 2


def rename(export_dir: Path, tmp_path: Path, target: str, suffix: str) -> Path:
    path = tmp_path / f"renamed{suffix}"
    shutil.copy(artifact(export_dir, target), path)
    return path


@pytest.mark.slow
def test_files_of_another_format_are_refused(
    run_cli: Run, export_dir: Path, portrait: Path, tmp_path: Path
) -> None:
    for target, suffix in (("tflite", ".onnx"), ("onnx", ".tflite"), ("executorch", ".tflite")):
        path = rename(export_dir, tmp_path, target, suffix)
        done = run_cli("score", "--model", path, portrait)
        assert done.returncode == 1
        assert done.stdout == ""
        assert str(path) in done.stderr
        assert f"content is {target}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite", "executorch"])
def test_damaged_files_are_refused(
    run_cli: Run, export_dir: Path, portrait: Path, tmp_path: Path, target: str
) -> None:
    whole = artifact(export_dir, target)
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes()[:200_000])
    done = run_cli("score", "--model", path, portrait)
    assert done.returncode == 1, done.stderr[-300:]
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_empty_missing_and_foreign_models(run_cli: Run, portrait: Path, tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.tflite", tmp_path / "text.bin"
    empty.touch()
    text.write_text("no model")
    for path, reason in (
        (empty, "is empty"),
        (tmp_path / "gone.onnx", "no such model"),
        (text, "no model that edgefiqa can run"),
        (tmp_path, "no model that edgefiqa can run"),
    ):
        done = run_cli("score", "--model", path, portrait)
        assert done.returncode == 1
        assert reason in done.stderr
        assert str(path) in done.stderr


USAGE = [
    (["convert", "default", "--to", "onnx,caffe", "--out", "out"], "executorch-coreml"),
    (["convert", "default", "--to", "", "--out", "out"], "onnx"),
    (["convert", "default", "--to", "onnx", "--size", "7", "--out", "out"], "7"),
    (["import", "x.pt", "--model", "resnet", "--out", "out"], "efficient-fiqa-student"),
    (["models", "--size", "0"], "0"),
    (["score", "--json", "--csv", "x.png"], "--csv"),
    (["score", "--runtime", "caffe", "x.png"], "onnxruntime"),
    (["score", "--runtime", "litert", "x.png"], "torch"),
    (["score", "--threads", "0", "x.png"], "threads"),
    (["score"], "photos"),
    (["score", "none-*.jpg"], "none-"),
    (["nonsense"], "nonsense"),
]


@pytest.mark.parametrize(("arguments", "named"), USAGE)
def test_usage_errors(run_cli: Run, tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_errors_of_convert_and_verify(run_cli: Run, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for arguments in (
        ["convert", gone, "--to", "onnx", "--out", tmp_path / "out"],
        ["verify", gone],
        ["import", gone, "--model", "mspt", "--out", tmp_path / "out"],
    ):
        done = run_cli(*arguments)
        assert done.returncode == 1, done.stderr
        assert str(gone) in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(run_python: Run, tmp_path: Path) -> None:
    for arguments in (["--debug", "verify", tmp_path], ["verify", tmp_path, "--debug"]):
        done = run_python(*arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_help_has_an_example_for_every_command(run_python: Run) -> None:
    listed = run_python("--help").stdout
    for command in ("models", "import", "convert", "score", "verify", "demo"):
        assert command in listed
        assert "Example" in run_python(command, "--help").stdout


def test_import_and_score(run_cli: Run, portrait: Path, tmp_path: Path) -> None:
    state = build("efficient-fiqa-student").state_dict()
    published = {
        key.replace("backbone.", "feature_extraction.").replace("head.", "quality.", 1)
        if not key.startswith("backbone.")
        else key.replace("backbone.", "feature_extraction.", 1): value
        for key, value in state.items()
    }
    torch.save({"model_state_dict": published}, tmp_path / "student.pt")
    out = tmp_path / "student"
    done = run_cli(
        "import", tmp_path / "student.pt", "--model", "efficient-fiqa-student",
        "--size", "352", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "model.safetensors"]
    assert json.loads((out / "card.json").read_text())["size"] == 352
    scored = run_cli("score", "--model", out, portrait, "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)[0]["score"] is not None
