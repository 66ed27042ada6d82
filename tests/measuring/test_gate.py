"""Gates and comparisons: planted faults are caught, noise is not, what is missing fails."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.records import FLOAT, executed, images_record, save_scores, score_record
from tests.tiny_onnx import MEAN, SIDE, STD, write_manifest, write_tiny
from typer import Typer
from typer.testing import CliRunner

from edgefiqa.benchmarks.drift.compare import Trend, change_line, compare_runs
from edgefiqa.benchmarks.drift.run import DriftRules, measure_run
from edgefiqa.benchmarks.drift.waterfall import waterfalls_of
from edgefiqa.commands import measure
from edgefiqa.errors import DataError, RecipeError
from edgefiqa.files import sha256_of
from edgefiqa.measuring.gate import check_gate, check_hashes, verdict_line, write_junit
from edgefiqa.measuring.policy import Policy, load_policy, policy_names
from edgefiqa.measuring.records import (
    FailureRecord,
    HostState,
    LatencyPhase,
    LatencyRecord,
    RecordedRules,
    Twin,
)
from edgefiqa.measuring.run_directory import Run, load_run, save_record
from edgefiqa.runtimes import load

RULES = DriftRules(threshold=0.5, resamples=100)
LABELS = np.linspace(0.1, 0.9, 120)
FLOATS = LABELS + np.random.default_rng(0).normal(0, 0.03, 120)
INT8 = executed("a_w8.onnx", precision="static_w8a8_per_channel", sha256="b" * 64)


def _run(path: Path, scores: Any, ran: Any = INT8, *, labels: bool = True) -> Run:
    images = images_record(len(scores), labels=LABELS[: len(scores)] if labels else None)
    reference = score_record(FLOATS[: len(scores)], FLOAT, reference=True)
    run = save_scores(path, images, reference, score_record(scores, ran))
    for _ in measure_run(run, RULES):
        pass
    return load_run(path)


def _policy(**rule: Any) -> Policy:
    return Policy.model_validate({"name": "test", "rules": [{"precision": ["*w8*"], **rule}]})


def _failed(run: Run, policy: Policy) -> list[str]:
    return [verdict_line(verdict) for verdict in check_gate(run, policy) if not verdict.passed]


@pytest.mark.parametrize("name", policy_names())
def test_shipped_policies_load(name: str) -> None:
    assert load_policy(name).rules


def test_the_quantised_policy_is_the_agreed_one() -> None:
    rules = {rule.metric: rule for rule in load_policy("quantised").rules}
    assert rules["delta_srcc"].max == rules["delta_plcc"].max == 0.001
    assert rules["srcc_reference"].min == 0.999
    assert (rules["p99_error"].max, rules["bias"].max) == (0.02, 0.003)
    assert all(rules[name].absolute for name in ("delta_srcc", "delta_plcc", "bias"))


def test_small_noise_passes_and_each_kind_of_drift_fails_its_rule(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    policy = load_policy("quantised")
    assert _failed(_run(tmp_path / "good", FLOATS + rng.normal(0, 1e-4, 120)), policy) == []
    shifted = _failed(_run(tmp_path / "shift", FLOATS + 0.005), policy)
    assert len(shifted) == 1
    assert "|bias| ≤ 0.003" in shifted[0]
    outliers = FLOATS.copy()
    outliers[:3] += (0.05, -0.05, 0.04)
    assert any("p99_error" in line for line in _failed(_run(tmp_path / "out", outliers), policy))
    noisy = _failed(_run(tmp_path / "noise", FLOATS + rng.normal(0, 0.05, 120)), policy)
    assert any("srcc_reference" in line for line in noisy)
    assert any("delta_srcc" in line for line in noisy)


def test_what_is_missing_fails(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", FLOATS, labels=False)
    (line,) = _failed(run, _policy(metric="delta_srcc", max=1))
    assert "missing: the images have no labels" in line
    (line,) = _failed(run, _policy(metric="bias", slice="dark", max=1))
    assert "no image is in the slice dark" in line
    (line,) = _failed(run, _policy(metric="bias", file="*.tflite", max=1))
    assert "missing: no record fits file *.tflite" in line
    (line,) = _failed(run, _policy(metric="latency_inference_p50_ms", max=1))
    assert "missing: no record fits" in line
    (line,) = _failed(run, _policy(metric="max_error", max=1, judged="interval"))
    assert "missing: no interval" in line


def test_a_crash_fails_the_rules_that_mean_its_file(tmp_path: Path) -> None:
    _run(tmp_path, FLOATS)
    failure = FailureRecord(
        file="b.tflite",
        sha256="c" * 64,
        target="tflite",
        precision="static_w8a8",
        runtime="litert",
        error="the process died\x1b[0m",
    )
    save_record(tmp_path, failure)
    verdicts = check_gate(load_run(tmp_path), _policy(metric="bias", absolute=True, max=1))
    assert [verdict.passed for verdict in verdicts] == [True, False]
    assert "not measured: the process died" in verdicts[1].detail
    write_junit(verdicts, tmp_path / "junit.xml", name="test")
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [len(case) for case in suite] == [0, 1]
    assert suite[1].get("classname") == "b.tflite in litert"


def test_drift_of_other_scores_than_the_runs_is_stale(tmp_path: Path) -> None:
    _run(tmp_path, FLOATS)
    newer = INT8.model_copy(update={"sha256": "d" * 64})
    save_record(tmp_path, score_record(FLOATS + 1, newer))
    (line,) = _failed(load_run(tmp_path), _policy(metric="bias", absolute=True, max=0.1))
    assert "stale" in line


def test_an_int8_file_with_the_floats_bytes_fails(tmp_path: Path) -> None:
    twin = Twin(file="a_w8.onnx", target="onnx", precision="static_w8a8")
    run = _run(tmp_path, FLOATS, executed(twins=(twin,)))
    (line,) = _failed(run, _policy(metric="bias", absolute=True, max=1))
    assert "files of different precision hold the same bytes" in line
    same = Twin(file="b.onnx", target="onnx", precision="fp32")
    run = _run(tmp_path / "2", FLOATS, executed(twins=(same,)))
    policy = Policy.model_validate(
        {"name": "t", "rules": [{"metric": "mean_error", "file": "b.onnx", "max": 0}]}
    )
    assert _failed(run, policy) == []  # the twin's name finds the record


def test_the_interval_is_judged_where_asked(tmp_path: Path, rng: np.random.Generator) -> None:
    run = _run(tmp_path, FLOATS + rng.normal(0.001, 0.01, 120))
    value = run.drift[0].slices["all"].figures["bias"]
    assert value.value is not None
    assert value.high is not None
    bound = (abs(value.value) + value.high) / 2
    rule = {"metric": "bias", "absolute": True, "max": bound}
    assert not _failed(run, _policy(**rule))
    assert _failed(run, _policy(**rule, judged="interval"))


def test_latency_and_size_have_bounds_too(tmp_path: Path) -> None:
    _run(tmp_path, FLOATS)
    host = HostState(
        recorded_at="-", processor="p", architecture="a", cores=1, system="s", python="3"
    )
    samples = {LatencyPhase.INFERENCE: tuple(float(v) for v in range(1, 102))}
    rules = RecordedRules(warm_up=0, min_count=1, min_seconds=0)
    save_record(
        tmp_path,
        LatencyRecord(executed=INT8, device="host", host=host, rules=rules, samples_ms=samples),
    )
    run = load_run(tmp_path)
    assert not _failed(run, _policy(metric="latency_inference_p90_ms", max=91))
    assert _failed(run, _policy(metric="latency_inference_p90_ms", max=90.9))
    assert _failed(run, _policy(metric="latency_load_p50_ms", max=91))
    assert not _failed(run, _policy(metric="size_bytes", max=1_000_000))
    newer = INT8.model_copy(update={"sha256": "d" * 64})
    save_record(
        tmp_path,
        LatencyRecord(executed=newer, device="host", host=host, rules=rules, samples_ms=samples),
    )
    (line,) = _failed(load_run(tmp_path), _policy(metric="latency_inference_p90_ms", max=91))
    assert "stale" in line


def test_a_stage_of_the_waterfall_has_bounds(tmp_path: Path) -> None:
    pixels = FLOATS + 0.01  # of another decoder
    run = save_scores(
        tmp_path / "run",
        images_record(120, labels=LABELS),
        score_record(pixels, FLOAT, reference=True),
        score_record(pixels, INT8),
    )
    rule = {"metric": "mean_error", "stage": "decode/resize"}
    (line,) = _failed(run, _policy(**rule, max=1))
    assert "missing: no waterfall ends with such a file" in line
    save_scores(
        tmp_path / "origin", images_record(120), score_record(FLOATS, FLOAT, reference=True)
    )
    (record,) = waterfalls_of(run, origin=load_run(tmp_path / "origin"), resamples=20)
    save_record(run.path, record)
    run = load_run(run.path)
    assert _failed(run, _policy(**rule, max=0.0101)) == []
    (line,) = _failed(run, _policy(**rule, max=0.0099))
    assert "mean_error of decode/resize ≤ 0.0099 = 0.01" in line
    assert _failed(run, _policy(metric="bias", stage="int8", absolute=True, max=1e-9)) == []
    (line,) = _failed(run, _policy(metric="bias", stage="fp16", max=1))
    assert "missing: the waterfall does not measure fp16" in line
    save_record(run.path, score_record(pixels, INT8.model_copy(update={"sha256": "d" * 64})))
    (line,) = _failed(load_run(run.path), _policy(**rule, max=1))
    assert "stale" in line


def test_stages_have_metrics_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    for wrong in ("metric: max_error", "metric: bias, slice: dark"):
        path.write_text(f"name: x\nrules:\n- {{{wrong}, stage: int8, max: 1}}\n")
        with pytest.raises(RecipeError, match="no metric of a stage"):
            load_policy(path)


def test_faults_of_a_policy_are_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("name: x\nrules:\n- {metric: srcc, max: 1}\n- {metric: bias, maximum: 1}\n")
    with pytest.raises(RecipeError, match=r"rules\.0.*unknown metric 'srcc'.*rules\.1\.maximum"):
        load_policy(path)
    path.write_text("name: x\nrules:\n- {metric: bias}\n")
    with pytest.raises(RecipeError, match="needs max, min or both"):
        load_policy(path)
    path.write_text("name: [")
    with pytest.raises(RecipeError, match="no YAML"):
        load_policy(path)
    with pytest.raises(RecipeError, match="quantised"):
        load_policy("strict")


FAULTS: dict[str, dict[str, Any]] = {
    "mean": {"mean": np.array([0.5, 0.5, 0.5], np.float32)},
    "std": {"std": 1.1 * STD},
    "colour order": {"bgr": True},
    "crop": {"shift": 1},
    "zero point": {"zero_point": 1},
    "one layer": {"perturbed": 0.05},
}


@pytest.fixture(scope="module")
def pixels() -> Any:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (60, 5, 5, 3))
    grain = rng.integers(-30, 30, (60, SIDE, SIDE, 3))
    large = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :SIDE, :SIDE]
    return np.clip(large + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("fault", ["none", *FAULTS])
def test_planted_faults_are_caught(fault: str, pixels: Any, tmp_path: Path) -> None:
    files = {
        "float": write_tiny(tmp_path / "float.onnx", mean=MEAN),
        "converted": write_tiny(tmp_path / "converted.onnx", **FAULTS.get(fault, {})),
    }
    scores = {name: load(path, threads=1).score(pixels) for name, path in files.items()}
    assert scores["float"].std() > 0
    ran = executed("converted.onnx", precision="w8a8", sha256=sha256_of(files["converted"]))
    images = images_record(len(pixels))
    reference = score_record(scores["float"], FLOAT, reference=True)
    run = save_scores(tmp_path / "run", images, reference, score_record(scores["converted"], ran))
    list(measure_run(run, RULES))
    failed = _failed(load_run(tmp_path / "run"), load_policy("quantised_unlabelled"))
    assert bool(failed) == (fault != "none"), failed


def test_a_stale_export_is_caught(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "export" / "a.onnx")
    write_manifest(tmp_path / "export", {"a.onnx": "fp32"})
    ran = executed("a.onnx", sha256=sha256_of(path))
    run = save_scores(tmp_path / "run", images_record(2), score_record([0.1, 0.2], ran))
    assert [checked.passed for checked in check_hashes(run, tmp_path / "export")] == [True]
    write_tiny(path, perturbed=0.1)
    (verdict,) = check_hashes(run, tmp_path / "export")
    assert not verdict.passed
    assert sha256_of(path)[:16] in verdict.detail
    write_manifest(tmp_path / "export", {"a.onnx": "fp32"})  # a new export, old scores
    assert not check_hashes(run, tmp_path / "export")[0].passed


def test_only_what_the_interval_shows_is_a_regression(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    old = _run(tmp_path / "old", FLOATS + rng.normal(0, 1e-3, 120))
    same = _run(tmp_path / "same", FLOATS + rng.normal(0, 1e-3, 120))
    worse = _run(tmp_path / "worse", FLOATS + rng.normal(0, 2e-2, 120))
    assert not [change for change in compare_runs(old, same, resamples=200) if change.failed]
    found = {change.metric: change for change in compare_runs(old, worse, resamples=200)}
    assert found["mean_error"].trend is Trend.WORSE
    assert found["srcc_reference"].trend is Trend.WORSE
    assert "REGRESSION" in change_line(found["mean_error"])
    better = {change.metric: change for change in compare_runs(worse, old, resamples=200)}
    assert better["mean_error"].trend is Trend.BETTER
    assert not any(change.failed for change in better.values())


def test_false_alarms_are_rare(tmp_path: Path, rng: np.random.Generator) -> None:
    alarms = 0
    for repeat in range(20):
        runs = [
            _run(tmp_path / f"{repeat}-{side}", FLOATS + rng.normal(0, 5e-3, 120))
            for side in range(2)
        ]
        changes = compare_runs(*runs, resamples=200)
        alarms += any(change.failed for change in changes)
    assert alarms <= 2


def test_lost_files_images_and_correlations_stand_against_the_new_run(tmp_path: Path) -> None:
    old = _run(tmp_path / "old", FLOATS)
    gone = _run(tmp_path / "gone", FLOATS, executed("other.onnx"))
    trends = {run.subject: run.trend for run in compare_runs(old, gone, resamples=20)}
    assert trends[INT8.cell] is Trend.MISSING
    assert trends["other.onnx in onnxruntime"] is Trend.NEW
    lost = FLOATS.copy()
    lost[4] = np.nan
    changes = compare_runs(old, _run(tmp_path / "lost", lost), resamples=20)
    assert changes[0].failed
    assert "1 images that the old run scored" in changes[0].detail
    constant = compare_runs(old, _run(tmp_path / "constant", np.full(120, 0.5)), resamples=20)
    assert {change.metric for change in constant if change.trend is Trend.MISSING} >= {
        "srcc_labels"
    }


def test_runs_of_different_images_cannot_be_compared(tmp_path: Path) -> None:
    old = _run(tmp_path / "old", FLOATS)
    other = save_scores(
        tmp_path / "other",
        images_record(2, sha256="9" * 64),
        score_record([0.1, 0.2], INT8, sha256="9" * 64),
    )
    with pytest.raises(DataError, match="different images"):
        compare_runs(old, other)


def test_commands_exit_with_the_verdict(tmp_path: Path, rng: np.random.Generator) -> None:
    app = Typer()
    app.command()(measure.gate)
    app.command()(measure.compare)
    _run(tmp_path / "good", FLOATS + rng.normal(0, 1e-4, 120))
    _run(tmp_path / "bad", FLOATS + 0.05)
    call = CliRunner().invoke
    good = call(app, ["gate", str(tmp_path / "good")])
    assert good.exit_code == 0
    assert good.stdout.count("PASS") == 6
    xml = tmp_path / "gate.xml"
    bad = call(app, ["gate", str(tmp_path / "bad"), "--policy", "quantised", "--junit", str(xml)])
    assert bad.exit_code == 1
    assert "FAIL  a_w8.onnx in onnxruntime: |bias| ≤ 0.003 = 0.05" in bad.stdout
    assert xml.is_file()
    runs = [str(tmp_path / "good"), str(tmp_path / "bad"), "--resamples", "50"]
    assert call(app, ["compare", *runs]).exit_code == 1
    assert call(app, ["compare", runs[0], *runs[:1], "--json"]).exit_code == 0
