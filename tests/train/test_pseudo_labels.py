import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models import save_lively

from edgefiqa.data.image_set import ImageSet
from edgefiqa.errors import DataError, MissingExtraError, UsageError
from edgefiqa.metrics import fit_logistic, srcc
from edgefiqa.models import load_model
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes.torch import score_with_torch
from edgefiqa.train.chunk_scoring import LabelSettings, ScoringPrecision
from edgefiqa.train.frozen_teacher import TeacherRuntime
from edgefiqa.train.label_table import (
    read_labels,
    read_rows,
    scores_of,
)
from edgefiqa.train.pseudo_labels import Engine, label_images

SIZE = 64
SETTINGS = LabelSettings(batch=3, chunk=7)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    save_lively("efficient-fiqa-student", SIZE, out)
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-five photographs of several shapes in two folders."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "more").mkdir()
    for i in range(25):
        shape = (int(rng.integers(70, 120)), int(rng.integers(70, 120)), 3)
        place = folder / "more" if i % 3 == 0 else folder
        pixels = (rng.integers(0, 100, shape) + 6 * i).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{i:02d}.png")
    return folder


def reference(model_dir: Path, photos: Path, names: Sequence[str]) -> np.ndarray:
    """One photograph a forward pass, by the runtime that `edgefiqa score` uses."""
    model, _ = load_model(model_dir)
    return np.concatenate(
        [score_with_torch(model, load_tensor(photos / name, SIZE)) for name in names]
    )


def test_scores_are_those_of_single_photographs(
    model_dir: Path, photos: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    labels = label_images(
        [model_dir], photos, tmp_path, settings=SETTINGS, workers=1,
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    names = [row.image for row in labels.rows]
    assert len(names) == 25
    assert names == sorted(names, key=lambda name: Path(name).parts)
    assert "more/00.png" in names
    expected = reference(model_dir, photos, names)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scores_of(labels.rows), expected, atol=1e-5)
    digest = hashlib.sha256(load_tensor(photos / names[4], SIZE).tobytes()).hexdigest()
    assert labels.rows[4].sha256 == digest
    assert all(row.mapped_score is None and row.spread is None for row in labels.rows)
    assert seen[-1] == (25, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "labels.csv", "labels.meta.json", "plan.json",
    ]  # fmt: skip
    assert labels.meta["scored"] == 25
    assert labels.meta["models"] == [load_model(model_dir)[1].sha256]


def test_mirrored_view_and_two_teachers(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    both = label_images(
        [model_dir], photos, tmp_path / "a", settings=replace(SETTINGS, views=2), workers=1
    )
    model, _ = load_model(model_dir)
    tensor = load_tensor(photos / both.rows[3].image, SIZE)
    plain = score_with_torch(model, tensor)[0]
    mirrored = score_with_torch(model, tensor[:, :, ::-1])[0]
    assert plain != mirrored
    assert both.rows[3].raw_score == pytest.approx((plain + mirrored) / 2, abs=1e-5)
    assert both.rows[3].spread == pytest.approx(abs(plain - mirrored) / 2, abs=1e-5)
    twice = label_images(
        [model_dir, model_dir], photos, tmp_path / "b", settings=SETTINGS, workers=1
    )
    assert {row.spread for row in twice.rows} == {0.0}


@pytest.mark.parametrize("workers", [1, 2])
def test_onnx_runtime_says_the_same(
    workers: int, model_dir: Path, photos: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, runtime=TeacherRuntime.ONNXRUNTIME, views=2)
    found = label_images([model_dir], photos, tmp_path / "a", settings=settings, workers=workers)
    in_torch = replace(settings, runtime=TeacherRuntime.TORCH)
    wanted = label_images([model_dir], photos, tmp_path / "b", settings=in_torch, workers=1)
    np.testing.assert_allclose(scores_of(found.rows), scores_of(wanted.rows), atol=1e-5)
    assert found.meta["settings"]["runtime"] == "onnxruntime"


def test_only_onnx_runtime_needs_onnx_runtime(
    model_dir: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    label_images([model_dir], photos, tmp_path / "a", settings=SETTINGS, workers=1)
    settings = replace(SETTINGS, runtime=TeacherRuntime.ONNXRUNTIME)
    with pytest.raises(MissingExtraError, match=r"edgefiqa\[convert\]"):
        label_images([model_dir], photos, tmp_path / "b", settings=settings, workers=1)


def test_low_precision_ranks_alike(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    low = replace(SETTINGS, precision=ScoringPrecision.BFLOAT16)
    full = label_images([model_dir], photos, tmp_path / "a", settings=SETTINGS, workers=1)
    half = label_images([model_dir], photos, tmp_path / "b", settings=low, workers=1)
    a, b = scores_of(full.rows), scores_of(half.rows)
    assert not np.array_equal(a, b)
    assert srcc(a, b) > 0.9


def test_decoding_threads_change_nothing(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    for name, readers in (("a", 0), ("b", 3)):
        settings = replace(SETTINGS, readers=readers)
        label_images([model_dir], photos, tmp_path / name, settings=settings, workers=1)
    assert (tmp_path / "a/labels.csv").read_bytes() == (tmp_path / "b/labels.csv").read_bytes()


@pytest.mark.slow
def test_workers_change_nothing(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        label_images([model_dir], photos, out, settings=SETTINGS, workers=workers)
    for name in ("labels.csv", "labels.meta.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("lost", [(), (1,), (0, 2, 3)])
def test_resumed_equals_uninterrupted(
    lost: tuple[int, ...],
    model_dir: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "resumed"
    label_images([model_dir], photos, whole, settings=SETTINGS, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr("edgefiqa.train.pseudo_labels._finish", lambda *_: _die())
        with pytest.raises(KeyboardInterrupt):
            label_images([model_dir], photos, out, settings=SETTINGS, workers=1)
    assert len(list((out / "chunks").iterdir())) == 4
    for number in lost:
        (out / "chunks" / f"{number:06d}.csv").unlink()
    (out / "chunks" / ".staged-x").mkdir()
    label_images([model_dir], photos, out, settings=SETTINGS, workers=1)
    for name in ("labels.csv", "labels.meta.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())


def _die() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_killed_at_random_moments(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from edgefiqa.train.pseudo_labels import label_images, LabelSettings\n"
        "s = LabelSettings(batch=1, chunk=1, size=256)\n"
        "label_images([sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]), settings=s, workers=1)"
    )

    def start(out: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", code, str(model_dir), str(photos), str(out)]
        return subprocess.Popen(command)

    assert start(tmp_path / "whole").wait() == 0
    out, rng = tmp_path / "killed", np.random.default_rng(os.getpid())
    killed_within = 0
    for _ in range(3):
        process = start(out)
        before = len(list((out / "chunks").glob("*.csv")))
        goal = before + int(rng.integers(1, 6))
        while process.poll() is None and len(list((out / "chunks").glob("*.csv"))) < goal:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_within += not (out / "labels.meta.json").exists()
    assert killed_within
    assert start(out).wait() == 0
    for name in ("labels.csv", "labels.meta.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def broken_copy(photos: Path, out: Path, broken: Sequence[int]) -> Path:
    out.mkdir()
    for i, path in enumerate(sorted(photos.rglob("*.png"))):
        content = path.read_bytes()
        (out / f"{i:02d}.png").write_bytes(content[:200] if i in broken else content)
    return out


def test_unreadable_images_keep_their_rows(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    folder = broken_copy(photos, tmp_path / "photos", [0, 11])
    settings = replace(SETTINGS, max_unreadable=0.1)
    labels = label_images([model_dir], folder, tmp_path / "out", settings=settings, workers=1)
    assert [row.image for row in labels.rows if row.error] == ["00.png", "11.png"]
    assert "truncated or damaged" in labels.rows[11].error
    assert labels.rows[11].raw_score is None
    assert (labels.meta["count"], labels.meta["unreadable"]) == (25, 2)
    scored = [row for row in labels.rows if not row.error]
    expected = reference(model_dir, folder, [row.image for row in scored])
    np.testing.assert_allclose(scores_of(scored), expected, atol=1e-5)


def _copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def test_too_many_unreadable_images_stop(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    folder, out = broken_copy(photos, tmp_path / "photos", [9]), tmp_path / "out"
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 25 images have no score.*09\.png.*1\.00%"):
            label_images([model_dir], folder, out, settings=SETTINGS, workers=1)
        kept = read_rows((out / "labels.partial.csv").read_text(encoding="utf-8"))
        assert [bool(row.error) for row in kept] == [False] * 9 + [True] + [False] * 4
        assert not (out / "labels.csv").exists()
    more = replace(SETTINGS, max_unreadable=0.04)  # the limit decides no row
    assert _copied(out, tmp_path / "more").exists()
    assert (
        label_images([model_dir], folder, tmp_path / "more", settings=more, workers=1).rows[9].error
    )
    (folder / "09.png").write_bytes((folder / "08.png").read_bytes())
    labels = label_images([model_dir], folder, out, settings=SETTINGS, workers=1)
    assert labels.rows[9].raw_score == pytest.approx(labels.rows[8].raw_score, abs=1e-5)
    assert not (out / "labels.partial.csv").exists()


def test_a_score_that_is_no_number_is_an_error(
    model_dir: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images),), torch.nan)

    from edgefiqa.train import pseudo_labels
    from edgefiqa.train.chunk_scoring import Teacher

    broken = Teacher(model=Broken(), size=SIZE, sha256="0")
    monkeypatch.setattr(pseudo_labels, "load_teacher", lambda _: broken)
    with pytest.raises(DataError, match="the model's score is nan"):
        label_images([model_dir], photos, tmp_path, settings=SETTINGS, workers=1)


def test_other_labels_are_not_overwritten(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    label_images([model_dir], photos, tmp_path, settings=SETTINGS, workers=1)
    before = (tmp_path / "labels.csv").read_bytes()
    for other in (replace(SETTINGS, batch=4), replace(SETTINGS, size=96)):
        with pytest.raises(DataError, match="other labels"):
            label_images([model_dir], photos, tmp_path, settings=other, workers=1)
    assert (tmp_path / "labels.csv").read_bytes() == before
    assert len(read_labels(tmp_path)[0]) == 25


def test_unfinished_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished pseudo-labels"):
        read_labels(tmp_path)


def test_bad_requests(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model"):
        label_images([], photos, tmp_path)
    with pytest.raises(UsageError, match="views"):
        LabelSettings(views=3)
    with pytest.raises(UsageError, match="not usable"):
        LabelSettings(batch=0)


def make_images(count: int, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sides = [(64, 64), (64, 80), (90, 64)]
    return [
        (rng.integers(0, 80, (*sides[i % 3], 3)) + 160 * i // count).astype(np.uint8)
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    from tests.sets import make_set

    labels = [None if i == 5 else round(0.9 - i / 40, 3) for i in range(20)]
    splits = ["train"] * 16 + ["held_back"] * 2 + ["held_out_types"] * 2
    out = tmp_path_factory.mktemp("labelled")
    return make_set(out, make_images(20), labels=labels, splits=splits, per_shard=6)


def test_calibrated_labels_of_an_image_set(
    labelled: ImageSet, model_dir: Path, tmp_path: Path
) -> None:
    labels = label_images(
        [model_dir], labelled.path, tmp_path, settings=replace(SETTINGS, chunk=4),
        calibrate=labelled.path, workers=1,
    )  # fmt: skip
    assert [row.image for row in labels.rows] == labelled.keys
    assert [row.sha256 for row in labels.rows] == [r["sha256"] for r in labelled.records]
    raw = np.array([row.raw_score for row in labels.rows])
    model, _ = load_model(model_dir)
    for i in (0, 1, 2, 19):  # square, wide, high: the centre is scored
        image = labelled.image(i)
        top, left = ((n - 64) // 2 for n in image.shape[:2])
        crop = image[None, top : top + 64, left : left + 64].copy()
        assert raw[i] == pytest.approx(score_with_torch(model, crop)[0], abs=1e-5)
    # Neither the held-back rows nor the one without a label take part in the fit.
    fitted = [i for i in range(16) if i != 5]
    expected = fit_logistic(raw[fitted], labelled.labels[fitted])
    mapped = np.array([row.mapped_score for row in labels.rows])
    np.testing.assert_allclose(mapped, expected(raw), atol=1e-6)
    assert labels.meta["calibration"]["rows"] == 15
    assert labels.rows[0].score == labels.rows[0].mapped_score


def test_chunks_do_not_cross_shards(labelled: ImageSet) -> None:
    from edgefiqa.train.pseudo_labels import _chunks_of_set

    chunks = _chunks_of_set(labelled, range(20), 4)
    assert [len(chunk) for chunk in chunks] == [4, 2, 4, 2, 4, 2, 2]
    assert [row for chunk in chunks for row in chunk.rows] == list(range(20))


def test_plan_is_json(model_dir: Path, photos: Path, tmp_path: Path) -> None:
    label_images([model_dir], photos, tmp_path, settings=SETTINGS, workers=1, engine=Engine.LOCAL)
    plan = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert plan["settings"]["batch"] == 3
    assert plan["settings"]["size"] == SIZE
    assert "readers" not in plan["settings"]
