"""The waterfall: each change goes to the stage that made it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tests.records import FLOAT, executed, images_record, save_scores, score_record

from edgefiqa.benchmarks.drift.waterfall import (
    DriftStage,
    Link,
    list_chains,
    measure_waterfall,
    waterfall_table,
    waterfalls_of,
)
from edgefiqa.benchmarks.report.charts import waterfall_chart
from edgefiqa.errors import DataError
from edgefiqa.measuring.cells import REWRITTEN
from edgefiqa.measuring.records import Executed, ScoreRecord
from edgefiqa.measuring.run_directory import Run, load_run, save_record

Array = NDArray[np.float64]
COUNT = 80
LABELS = np.linspace(0, 1, COUNT)
FLOATS = LABELS + np.random.default_rng(0).normal(0, 0.05, COUNT)
REWRITTEN_TORCH = FLOAT.model_copy(update={"file": "rewritten", "target": REWRITTEN})


def _file(precision: str, runtime: str = "litert", sha256: str = "") -> Executed:
    digest = sha256 or f"{sum(map(ord, precision)):064x}"
    return executed(
        f"a_{precision}.tflite",
        precision=precision,
        sha256=digest,
        runtime=runtime,
        format_="tflite",
        target="tflite",
    )


def _run(path: Path, *records: ScoreRecord) -> Run:
    return save_scores(path, images_record(COUNT, labels=LABELS), *records)


def _noise(size: float, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0, size, COUNT)


def test_contributions_equal_an_independent_computation() -> None:
    vectors = [FLOATS, FLOATS + 0.01, FLOATS + 0.01 + _noise(0.02)]
    stages = [DriftStage.TRAINED, DriftStage.CONVERSION, DriftStage.INT8]
    links = [
        Link(stage=stage, executed=executed(f"{stage}"), scores=scores)
        for stage, scores in zip(stages, vectors, strict=True)
    ]
    images = images_record(COUNT, labels=LABELS)
    record = measure_waterfall(links, images, name="a", resamples=50)
    assert [step.stage for step in record.steps] == ["conversion", "int8"]
    for step, before, after in zip(
        (*record.steps, record.total), (*vectors[:2], vectors[0]), (*vectors[1:], vectors[2]),
        strict=True,
    ):  # fmt: skip
        change = after - before
        assert step.bias == pytest.approx(change.mean())
        assert step.mean_error == pytest.approx(np.abs(change).mean())
        assert step.p99_error == pytest.approx(np.quantile(np.abs(change), 0.99))
        assert step.srcc.value == pytest.approx(stats.spearmanr(before, after).statistic)
        delta = stats.spearmanr(after, LABELS).statistic - stats.spearmanr(before, LABELS).statistic
        assert step.delta_srcc.value == pytest.approx(delta)
    assert sum(step.bias for step in record.steps) == pytest.approx(record.total.bias)
    assert set(record.not_measured) == {
        "decode/resize",
        "graph rewriting",
        "fp16",
        "runtime",
        "architecture",
    }


@pytest.mark.parametrize("faulty", ["graph rewriting", "conversion", "int8", "runtime"])
def test_a_planted_fault_is_named(faulty: str, tmp_path: Path) -> None:
    """From the faulty stage on, all scores are off; so they are in a real export."""
    int8 = _file("mixed_w8a8")
    chain = [
        ("graph rewriting", REWRITTEN_TORCH),
        ("conversion", _file("fp32")),
        ("int8", int8),
        ("runtime", int8.model_copy(update={"runtime": "tensorflow"})),
    ]
    scores, records = FLOATS, []
    for seed, (stage, scored) in enumerate(chain):
        scores = scores + _noise(1e-5, seed) + (0.05 if stage == faulty else 0)
        records.append(score_record(scores, scored))
    run = _run(tmp_path, score_record(FLOATS, FLOAT, reference=True), *records)
    record = next(
        waterfall for waterfall in waterfalls_of(run, resamples=20) if "w8a8" in waterfall.name
    )
    assert [step.stage for step in record.steps] == [stage for stage, _ in chain]
    worst = max(record.steps, key=lambda step: step.mean_error)
    assert worst.stage == faulty
    assert worst.bias == pytest.approx(0.05, abs=1e-4)
    assert record.total.bias == pytest.approx(0.05, abs=1e-4)


def test_each_file_ends_a_chain_by_its_own_way(tmp_path: Path) -> None:
    run = _run(
        tmp_path,
        score_record(FLOATS, FLOAT, reference=True),
        *(score_record(FLOATS, _file(name)) for name in ("fp32", "fp16", "mixed_w8a8")),
    )
    chains = {name: [link.stage for link in links] for name, links in list_chains(run)}
    assert chains == {
        "a_fp32.tflite": [DriftStage.TRAINED, DriftStage.CONVERSION],
        "a_fp16.tflite": [DriftStage.TRAINED, DriftStage.CONVERSION, DriftStage.FP16],
        "a_mixed_w8a8.tflite": [DriftStage.TRAINED, DriftStage.CONVERSION, DriftStage.INT8],
    }


def test_decoding_and_architecture_come_from_other_runs(tmp_path: Path) -> None:
    int8 = _file("mixed_w8a8")
    pixels = FLOATS + 0.02  # another decoder
    run = _run(
        tmp_path / "host",
        score_record(pixels, FLOAT, reference=True),
        score_record(pixels, _file("fp32")),
        score_record(pixels, int8),
    )
    origin = score_record(FLOATS, FLOAT, reference=True)
    renamed = tuple(
        entry.model_copy(update={"key": entry.key.replace(".png", ".jpg")})
        for entry in origin.scores
    )
    start = _run(tmp_path / "origin", origin.model_copy(update={"scores": renamed}))
    phone = _run(tmp_path / "phone", score_record(pixels + 0.001, int8))
    records = waterfalls_of(run, origin=start, device=phone, resamples=20)
    record = next(waterfall for waterfall in records if "w8a8" in waterfall.name)
    bias = {step.stage: step.bias for step in record.steps}
    assert bias == pytest.approx(
        {"decode/resize": 0.02, "conversion": 0, "int8": 0, "architecture": 0.001}
    )


def test_images_without_a_score_anywhere_are_left_out(tmp_path: Path) -> None:
    scores = FLOATS.copy()
    scores[3] = np.nan
    run = _run(
        tmp_path,
        score_record(FLOATS, FLOAT, reference=True),
        score_record(scores, _file("fp32")),
    )
    (record,) = waterfalls_of(run, resamples=20)
    assert record.total.n == COUNT - 1
    nothing = [
        Link(stage=DriftStage.TRAINED, executed=FLOAT, scores=FLOATS),
        Link(stage=DriftStage.CONVERSION, executed=FLOAT, scores=np.full(COUNT, np.nan)),
    ]
    with pytest.raises(DataError, match="at every stage"):
        measure_waterfall(nothing, images_record(COUNT), name="a")
    with pytest.raises(DataError, match="two links"):
        measure_waterfall(nothing[:1], images_record(COUNT), name="a")


def test_constant_scores_and_no_labels_are_defined(tmp_path: Path) -> None:
    constant = np.full(COUNT, 0.5)
    images = images_record(COUNT)
    run = save_scores(
        tmp_path,
        images,
        score_record(constant, FLOAT, reference=True),
        score_record(constant, _file("fp32")),
    )
    (record,) = waterfalls_of(run, resamples=20)
    assert record.steps[0].srcc.value is None
    assert record.steps[0].mean_error == 0
    assert "| – | – |" in waterfall_table(record)
    assert waterfall_chart(record).startswith("<svg")
    save_record(tmp_path, record)
    assert load_run(tmp_path).waterfalls == (record,)


def test_the_table_has_a_row_a_stage(tmp_path: Path) -> None:
    run = _run(
        tmp_path,
        score_record(FLOATS, FLOAT, reference=True),
        score_record(FLOATS + _noise(0.01), _file("mixed_w8a8")),
    )
    (record,) = waterfalls_of(run, resamples=20)
    lines = waterfall_table(record).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| int8", "| total"]
    assert "Not measured: decode/resize, graph rewriting, conversion" in lines[-1]
    chart = waterfall_chart(record)
    assert "currentColor" in chart
    assert "int8" in chart
