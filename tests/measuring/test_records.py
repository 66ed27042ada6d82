"""Records: no metric without a hash, nothing unknown, nothing half written."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.records import FLOAT, executed, identity, images_record, save_scores, score_record

from edgefiqa.errors import DataError
from edgefiqa.measuring.records import (
    Executed,
    FailureRecord,
    Figure,
    HostState,
    ImageScore,
    LatencyPhase,
    LatencyRecord,
    RecordedRules,
    ScoreRecord,
)
from edgefiqa.measuring.run_directory import load_record, load_run, record_path, save_record


def test_a_metric_needs_the_hash_of_what_was_executed() -> None:
    fields = executed().model_dump()
    del fields["sha256"]
    with pytest.raises(ValidationError, match="sha256"):
        Executed(**fields)
    for wrong in ("", "abc", "A" * 64, None):
        with pytest.raises(ValidationError, match="sha256"):
            Executed(**{**fields, "sha256": wrong})
    score = score_record([0.5]).model_dump()
    del score["executed"]
    with pytest.raises(ValidationError, match="executed"):
        ScoreRecord(**score)


def test_unknown_keys_other_versions_and_infinite_numbers_are_refused() -> None:
    record = score_record([0.5, 0.6]).model_dump()
    with pytest.raises(ValidationError, match="Extra inputs"):
        ScoreRecord.model_validate({**record, "device": "mine"})
    with pytest.raises(ValidationError, match="schema_version"):
        ScoreRecord(**{**record, "schema_version": 2})
    with pytest.raises(ValidationError, match="finite"):
        ImageScore(key="a", score=float("nan"))
    with pytest.raises(ValidationError, match="frozen"):
        score_record([0.5]).executed.file = "b"


def test_a_score_or_an_error_and_one_entry_an_image() -> None:
    for score, error in ((None, None), (0.5, "damaged")):
        with pytest.raises(ValidationError, match="a score or an error"):
            ImageScore(key="a", score=score, error=error)
    entries = (ImageScore(key="a", score=0.1),)
    with pytest.raises(ValidationError, match="1 entries for 2 images"):
        ScoreRecord(executed=executed(), images=identity(2), scores=entries, seconds=0)


def test_a_figure_without_value_or_interval_says_why() -> None:
    with pytest.raises(ValidationError, match="needs a reason"):
        Figure(value=None)
    with pytest.raises(ValidationError, match="needs a reason"):
        Figure(value=1.0)
    with pytest.raises(ValidationError, match="two ends"):
        Figure(value=1.0, low=0.5)
    assert Figure(value=1.0, low=0.5, high=2.0).reason is None


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    record = score_record([0.5, float("nan")])
    run = save_scores(tmp_path, images_record(2), record)
    assert run.scores == (record,)
    assert run.images == images_record(2)
    assert not list(tmp_path.rglob(".staged-*"))
    latency = LatencyRecord(
        executed=executed(),
        device="host",
        host=HostState(
            recorded_at="2026-01-01T00:00:00Z",
            processor="p",
            architecture="x86_64",
            cores=2,
            system="s",
            python="3",
        ),
        rules=RecordedRules(warm_up=1, min_count=1, min_seconds=0),
        samples_ms={LatencyPhase.INFERENCE: (1.0, 2.0)},
    )
    save_record(tmp_path, latency)
    assert load_run(tmp_path).latency == (latency,)


def test_means_need_their_counts_and_a_row_is_named_in_one_way() -> None:
    values = {
        "executed": executed(runtime="benchmark_model"),
        "device": "host",
        "host": {"recorded_at": "", "processor": "", "architecture": "", "cores": 1, "system": ""},
        "rules": {"warm_up": 1, "min_count": 1, "min_seconds": 0},
        "samples_ms": {"inference": (1.0, 2.0)},
    }
    record = LatencyRecord.model_validate(values | {"inferences": (50, 60)})
    with pytest.raises(ValidationError, match="needs its number of inferences"):
        LatencyRecord.model_validate(values | {"inferences": (50,)})
    ran = record.executed
    fields = {name: getattr(ran, name) for name in ("file", "target", "precision", "runtime")}
    failure = FailureRecord(**fields, sha256=None, error="crash")
    assert failure.cell == ran.cell == "a.onnx in benchmark_model"
    assert failure.names == ran.names == [("a.onnx", "fp32")]


def test_each_cell_has_one_place(tmp_path: Path) -> None:
    names = [("a.onnx", "onnxruntime"), ("a.onnx", "other"), ("dir/a.onnx", "onnxruntime")]
    names.append(("dir-a.onnx", "onnxruntime"))
    paths = {
        record_path(tmp_path, score_record([1], executed(file, runtime=runtime)))
        for file, runtime in names
    }
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path / "scores"}


def test_damage_is_named(tmp_path: Path) -> None:
    path = save_record(tmp_path, score_record([0.5]))
    content = json.loads(path.read_text())
    content["scores"][0]["score"] = "high"
    content["note"] = "?"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"scores\.0\.score.*note"):
        load_record(path)
    path.write_text(path.read_text()[:40])
    with pytest.raises(DataError, match="not a valid record"):
        load_record(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_record(tmp_path / "none.json")
    with pytest.raises(DataError, match="no records here"):
        load_run(tmp_path / "empty")


def test_records_of_different_images_do_not_mix(tmp_path: Path) -> None:
    save_record(tmp_path, score_record([0.5]))
    with pytest.raises(DataError, match="different images"):
        load_run(tmp_path)  # no images.json
    save_record(tmp_path, images_record(1))
    assert load_run(tmp_path).images is not None
    save_record(tmp_path, score_record([0.5], FLOAT, sha256="2" * 64))
    with pytest.raises(DataError, match="different images"):
        load_run(tmp_path)
