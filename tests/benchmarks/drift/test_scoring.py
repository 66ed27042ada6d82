"""Scoring: each file in a separate process, what was done is kept, what fails is a record."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.sets import make_set
from tests.tiny_onnx import SIDE, write_manifest, write_tiny
from typer import Typer
from typer.testing import CliRunner

from edgefiqa.benchmarks.drift import scoring
from edgefiqa.benchmarks.drift.scoring import Outcome, score_cells, score_export
from edgefiqa.commands import measure
from edgefiqa.errors import ArtifactError, DataError, UnknownNameError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.measuring import cells as cells_module
from edgefiqa.measuring.cells import Cell, list_cells
from edgefiqa.measuring.image_source import SourceSpec, describe_images, open_source
from edgefiqa.measuring.records import FailureRecord, ScoreRecord
from edgefiqa.measuring.run_directory import load_run, save_record
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes import Format, load

COUNT = 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for row in range(COUNT):
        pixels = rng.integers(0, 40 + 40 * row, (24, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{row}.png")
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Two files, and a third with the bytes of the first; the weights are not here."""
    directory = tmp_path / "export"
    write_tiny(directory / "a_fp32.onnx")
    write_tiny(directory / "a_w8.onnx", perturbed=0.1)
    write_tiny(directory / "copy_fp32.onnx")
    files = {"a_fp32.onnx": "fp32", "a_w8.onnx": "static_w8a8", "copy_fp32.onnx": "fp32"}
    write_manifest(directory, files)
    return directory


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the first ONNX file as the reference: torch is not what is tested here."""

    def reference(manifest: object, reference: Path | None) -> Cell:
        assert reference is not None
        return _cell(reference, name="weights", is_reference=True)

    monkeypatch.setattr(cells_module, "_reference_cell", reference)


def _cell(path: Path, *, name: str = "", **about: object) -> Cell:
    values: dict[str, Any] = {
        "target": "onnx",
        "precision": "fp32",
        "runtime": "onnxruntime",
        "format": Format.ONNX,
    }
    values |= {"sha256": sha256_of(path) if path.exists() else "0" * 64}
    return Cell(path=path, name=name or path.name, **(values | about))


def _score(cells: list[Cell], photos: Path, run: Path) -> list[Outcome]:
    spec = SourceSpec(path=photos)
    images = describe_images(open_source(spec), SIDE)
    save_record(run, images)
    return score_cells(cells, spec, images.identity, run, threads=1)


def test_scores_are_the_runtimes_own(photos: Path, export: Path, tmp_path: Path) -> None:
    path = export / "a_fp32.onnx"
    (record,) = _score([_cell(path)], photos, tmp_path / "run")
    assert isinstance(record, ScoreRecord)
    scorer = load(path, threads=1)
    expected = [
        float(scorer.score(load_tensor(photos / f"{row}.png", SIDE))[0]) for row in range(COUNT)
    ]
    assert [entry.score for entry in record.scores] == expected
    assert len(set(expected)) == COUNT
    assert record.executed.sha256 == sha256_of(path)
    assert record.executed.runtime_version.startswith("onnxruntime ")
    assert load_run(tmp_path / "run").scores == (record,)


def test_image_sets_and_photographs_give_the_same_scores(
    photos: Path, export: Path, tmp_path: Path
) -> None:
    pixels = [np.asarray(Image.open(photos / f"{row}.png")) for row in range(COUNT)]
    made = make_set(tmp_path / "set", pixels, labels=[0.1 * row for row in range(COUNT)])
    cells = [_cell(export / "a_fp32.onnx")]
    (from_photos,) = _score(cells, photos, tmp_path / "run1")
    (from_set,) = _score(cells, made.path, tmp_path / "run2")
    assert isinstance(from_photos, ScoreRecord)
    assert isinstance(from_set, ScoreRecord)
    assert [e.score for e in from_photos.scores] == [e.score for e in from_set.scores]
    images = load_run(tmp_path / "run2").images
    assert images is not None
    assert [fact.label for fact in images.images][1] == pytest.approx(0.1)


def test_files_of_one_hash_are_scored_once_and_said_so(export: Path) -> None:
    cells = list_cells(export, reference=export / "a_fp32.onnx")
    assert [cell.name for cell in cells][1:] == ["a_fp32.onnx", "a_w8.onnx"]
    assert [twin.file for twin in cells[1].twins] == ["copy_fp32.onnx"]
    assert not cells[2].twins


def test_a_stale_file_is_not_executed(photos: Path, export: Path, tmp_path: Path) -> None:
    write_tiny(export / "a_w8.onnx", perturbed=0.2)  # made anew, the manifest was not
    (export / "copy_fp32.onnx").unlink()
    cells = list_cells(export, reference=export / "a_fp32.onnx")[1:]
    outcomes = _score(cells, photos, tmp_path / "run")
    assert isinstance(outcomes[0], ScoreRecord)
    assert isinstance(outcomes[1], FailureRecord)
    assert "not the file of the manifest" in outcomes[1].error
    assert outcomes[1].sha256 == sha256_of(export / "a_w8.onnx")
    assert isinstance(outcomes[2], FailureRecord)
    assert outcomes[2].error == "the file is missing"
    assert outcomes[2].sha256 is None


def test_a_crash_is_a_record_and_the_others_finish(
    photos: Path, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((export / "a_fp32.onnx").read_bytes()[:300])
    cells = [
        _cell(damaged),
        _cell(export / "a_w8.onnx", name="killer.onnx", target="killer"),
        _cell(export / "a_fp32.onnx"),
    ]
    monkeypatch.setattr(scoring, "score_cell", _score_or_die)
    outcomes = _score(cells, photos, tmp_path / "run")
    assert [outcome.measurement for outcome in outcomes] == ["failure", "failure", "scores"]
    assert isinstance(outcomes[0], FailureRecord)
    assert isinstance(outcomes[1], FailureRecord)
    assert "cannot load this file" in outcomes[0].error
    assert "died" in outcomes[1].error
    run = load_run(tmp_path / "run")
    assert (len(run.scores), len(run.failures)) == (1, 2)


def _score_or_die(job: "scoring.ScoreJob") -> ScoreRecord:
    """Stand in for a native library that crashes; runs in the worker."""
    if job.cell.target == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    return scoring.score_cell(job)


def test_what_is_done_is_kept(photos: Path, export: Path, tmp_path: Path) -> None:
    cells = [_cell(export / "a_fp32.onnx")]
    run = tmp_path / "run"
    first = _score(cells, photos, run)
    assert _score(cells, photos, run) == first  # seconds too: it did not run again
    write_tiny(export / "a_fp32.onnx", perturbed=0.5)
    (again,) = _score([_cell(export / "a_fp32.onnx")], photos, run)
    assert isinstance(again, ScoreRecord)
    assert again.executed.sha256 == sha256_of(export / "a_fp32.onnx")
    assert again.scores != first[0].scores  # type: ignore[union-attr]
    (stale,) = _score([_cell(export / "a_fp32.onnx", stale="other bytes")], photos, run)
    assert isinstance(stale, FailureRecord)
    assert load_run(run).scores == ()  # the old scores do not stand beside the failure


def test_an_interrupted_cell_goes_on_where_it_stopped(
    photos: Path, export: Path, tmp_path: Path
) -> None:
    cell = _cell(export / "a_fp32.onnx")
    spec = SourceSpec(path=photos)
    images = describe_images(open_source(spec), SIDE)
    partial = tmp_path / "partial.jsonl"
    job = scoring.ScoreJob(cell=cell, spec=spec, images=images.identity, threads=1, partial=partial)
    whole = scoring.score_cell(job)
    lines = partial.read_text().splitlines()
    marked = json.loads(lines[1]) | {"score": 42.0}
    partial.write_text("\n".join([lines[0], json.dumps(marked), lines[2], lines[3][:9]]))
    resumed = scoring.score_cell(job)
    assert resumed.scores[0].score == 42.0  # taken from the file, not computed again
    assert resumed.scores[1:] == whole.scores[1:]
    partial.write_text("\n".join(["{}", json.dumps(marked)]))  # of other work
    assert scoring.score_cell(job).scores == whole.scores


def test_unreadable_images_and_infinite_scores_are_errors(
    photos: Path, export: Path, tmp_path: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    write_tiny(export / "nan.onnx", constant=float("nan"))
    cells = [_cell(export / "a_fp32.onnx"), _cell(export / "nan.onnx")]
    good, bad = _score(cells, photos, tmp_path / "run")
    assert isinstance(good, ScoreRecord)
    assert isinstance(bad, ScoreRecord)
    errors = {entry.key: entry.error for entry in good.scores if entry.error}
    assert list(errors) == ["broken.png"]
    assert all(entry.error == "the score is nan" for entry in bad.scores[:COUNT])


def test_a_run_is_of_one_set_of_images(photos: Path, export: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = {"reference": export / "a_fp32.onnx", "runtimes": ["onnxruntime"]}
    outcomes = score_export(export, SourceSpec(path=photos, limit=2), run, **arguments)  # type: ignore[arg-type]
    assert len(outcomes) == 3
    with pytest.raises(DataError, match="this run is of other images"):
        score_export(export, SourceSpec(path=photos), run, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="onnxruntime"):
        score_export(export, SourceSpec(path=photos), run, runtimes=["onnxrt"])
    with pytest.raises(UsageError, match="threads"):
        score_export(export, SourceSpec(path=photos), run, threads=0)


def test_images_that_change_during_the_run_are_noticed(
    photos: Path, export: Path, tmp_path: Path
) -> None:
    spec = SourceSpec(path=photos)
    images = describe_images(open_source(spec), SIDE)
    (photos / "0.png").unlink()
    job = scoring.ScoreJob(
        cell=_cell(export / "a_fp32.onnx"),
        spec=spec,
        images=images.identity,
        threads=1,
        partial=tmp_path / "p.jsonl",
    )
    with pytest.raises(DataError, match="images changed"):
        scoring.score_cell(job)


def test_a_file_of_another_size_is_refused(photos: Path, export: Path, tmp_path: Path) -> None:
    path = write_tiny(export / "large.onnx", size=32)
    (record,) = _score([_cell(path)], photos, tmp_path / "run")
    assert isinstance(record, FailureRecord)
    assert "takes 32 pixels, the manifest says 16" in record.error


def test_the_reference_must_be_the_exports_own_weights(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="not the weights"):
        list_cells(export)


def test_the_command_scores_measures_and_says_what_failed(
    photos: Path, export: Path, tmp_path: Path
) -> None:
    app = Typer()
    app.command()(measure.drift)
    app.command()(measure.report)  # a second one, so that the first keeps its name
    run = tmp_path / "run"
    arguments = ["drift", export, "--images", photos, "--out", run, "--threshold", "0.5"]
    arguments += ["--reference", export / "a_fp32.onnx", "--resamples", "20"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "a_w8.onnx in onnxruntime" in done.stdout
    records = load_run(run)
    assert [record.executed.file for record in records.drift] == ["a_fp32.onnx", "a_w8.onnx"]
    assert records.drift[1].worst[0].thumbnail is not None
    (export / "a_w8.onnx").unlink()
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 1
    assert "not measured: a_w8.onnx in onnxruntime: the file is missing" in done.output
    assert len(load_run(run).drift) == 1  # the old drift does not stand for the missing file


@pytest.mark.slow
def test_an_export_is_scored_by_its_runtimes(
    export_dir: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    spec = SourceSpec(path=photos, limit=3)
    runtimes = ["onnxruntime", "litert"]
    outcomes = score_export(export_dir, spec, tmp_path / "run", runtimes=runtimes)
    assert {outcome.measurement for outcome in outcomes} == {"scores"}
    run = load_run(tmp_path / "run")
    assert run.reference is not None
    assert run.reference.executed.runtime == "torch"
    expected = [entry.score for entry in run.reference.scores]
    for record in run.scores:
        assert [entry.score for entry in record.scores] == pytest.approx(expected, abs=1e-4)
