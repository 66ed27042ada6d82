"""The agent protocol: what Python refuses, and that Kotlin's JSON is the same protocol."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefiqa.benchmarks.latency.protocol import (
    SCHEMA_PATH,
    AgentJob,
    AgentReport,
    JobGoldens,
    JobModel,
    build_schema,
    check_answer,
    load_report,
    write_job,
)
from edgefiqa.errors import ArtifactError
from edgefiqa.files import sha256_of

REPORTS = Path(__file__).parents[2] / "android_demo/build/check/reports"
SAMPLES = [30, 10, 40, 20, 1000]


def job(**changes: Any) -> AgentJob:
    values: dict[str, Any] = {
        "job_id": "cell-1",
        "model": JobModel(file="m.tflite", sha256="a" * 64),
        "runtime": "litert",
        "precision": "fp32",
        "threads": 2,
        "size": 288,
        "goldens": JobGoldens(directory="goldens", sha256="b" * 64),
    }
    return AgentJob.model_validate(values | changes)


def report(**changes: Any) -> dict[str, Any]:
    p50, p90, p99, low, high = np.percentile(SAMPLES, [50, 90, 99, 25, 75])
    state = dict.fromkeys(
        ["thermal_headroom", "battery_percent", "battery_celsius", "charging", "power_save"]
    ) | {"uptime_ns": 5, "thermal_status": "none", "available_memory_bytes": None}
    check = {"case": "c", "level": "tensor_to_score", "passed": True, "difference": 0.0}
    return {
        "schema_version": 1,
        "job_id": "cell-1",
        "job_sha256": "c" * 64,
        "passed": True,
        "agent": {"name": "agent", "version": "1"},
        "runtime": {"name": "litert", "version": "2"},
        "device": None,
        "state_before": state,
        "state_after": state,
        "model": {"file": "m.tflite", "sha256": "a" * 64, "size_bytes": 7},
        "precision": "fp32",
        "threads": 2,
        "timed_input": "c",
        "load_ns": 5,
        "first_ns": 6,
        "warm_up_ns": [1],
        "samples_ns": SAMPLES,
        "rules_met": True,
        "statistics": {
            "count": 5,
            "min_ns": 10.0,
            "max_ns": 1000.0,
            "mean_ns": 220.0,
            "p50_ns": p50,
            "p90_ns": p90,
            "p99_ns": p99,
            "iqr_ns": high - low,
        },
        "end_to_end": [],
        "goldens": {
            "sha256": "b" * 64,
            "passed": True,
            "checks": [check | {"allowed": 1e-4, "fault": ""}],
        },
        "peak_rss_bytes": None,
        "errors": [],
    } | changes


def load(tmp_path: Path, values: dict[str, Any]) -> AgentReport:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(values))
    return load_report(path)


def test_the_schema_file_is_that_of_the_classes():
    assert json.loads(SCHEMA_PATH.read_text()) == build_schema(), "run write_schema()"


def test_a_job_survives_its_file(tmp_path: Path):
    path = tmp_path / "job.json"
    assert write_job(job(), path) == sha256_of(path)
    assert AgentJob.model_validate_json(path.read_bytes()) == job()


def test_a_good_answer_is_accepted(tmp_path: Path):
    check_answer(job(), "c" * 64, load(tmp_path, report()))


@pytest.mark.parametrize(
    "changes",
    [
        {"samples_ns": [*SAMPLES, 5]},
        {"samples_ns": []},
        {"statistics": None},
        {"rules_met": False},
        {"errors": [{"stage": "load", "kind": "X", "what": "y"}]},
        {"goldens": report()["goldens"] | {"passed": False}},
        {"schema_version": 2},
        {"load_ns": -1},
        {"errors": [{"stage": "lunch", "kind": "X", "what": "y"}], "passed": False},
        {"extra": 1},
    ],
)
def test_reports_that_contradict_themselves_are_refused(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(ArtifactError):
        load(tmp_path, report(**changes))


def test_cut_off_and_missing_reports_are_refused(tmp_path: Path):
    (tmp_path / "cut.json").write_text(json.dumps(report())[:-40])
    for name in ("cut.json", "absent.json"):
        with pytest.raises(ArtifactError):
            load_report(tmp_path / name)


@pytest.mark.parametrize(
    "changes",
    [
        {"job_sha256": "d" * 64},
        {"job_id": "cell-2"},
        {"threads": 4},
        {"precision": "int8"},
        {"runtime": {"name": "onnxruntime", "version": "1"}},
        {"model": report()["model"] | {"sha256": "e" * 64}},
        {"goldens": report()["goldens"] | {"sha256": "f" * 64}},
    ],
)
def test_an_answer_to_another_job_is_refused(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(ArtifactError, match="another job"):
        check_answer(job(), "c" * 64, load(tmp_path, report(**changes)))


def test_reports_and_jobs_of_the_kotlin_agent(tmp_path: Path):
    """The files that the Kotlin tests wrote; `android_demo/check/run.sh core` makes them."""
    found = sorted(REPORTS.glob("*.report.json"))
    if not found:
        pytest.skip("no reports of the Kotlin tests: run android_demo/check/run.sh core")
    assert len(found) >= 18
    for path in found:
        answer = load_report(path)
        job_path = path.with_name(path.name.replace(".report", ""))
        assert answer.job_sha256 == sha256_of(job_path)
        if not any(error.stage == "job" for error in answer.errors):
            asked = AgentJob.model_validate_json(job_path.read_bytes())
            check_answer(asked, answer.job_sha256, answer)
        elif not path.name.startswith("other_runtime"):
            with pytest.raises(ValueError, match="validation error"):
                AgentJob.model_validate_json(job_path.read_bytes())
    assert load_report(REPORTS / "passed.report.json").passed
