"""The comparison on held-back images: figures, intervals, failing scorers, tables."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import stats

from edgefiqa.benchmarks.studies.accuracy.agreement import (
    bootstrap_clusters,
    list_groups,
    measure_agreement,
)
from edgefiqa.benchmarks.studies.accuracy.records import AccuracyRecord
from edgefiqa.benchmarks.studies.accuracy.run import Protocol, compare, write_comparison
from edgefiqa.benchmarks.studies.accuracy.table import accuracy_tables
from edgefiqa.data.image_set import Entry, ImageSet, Split, build_image_set
from edgefiqa.errors import DataError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.metrics import bootstrap_interval, srcc
from edgefiqa.models import ModelCard, build, default_model_dir, measure_cost, save_model

PROTOCOL = Protocol(resamples=30, batch=5, rounds=2)


def _entries(_job: int) -> Iterator[Entry]:
    """Blurred noise: the less blur, the higher the label."""
    rng = np.random.default_rng(0)
    splits = [Split.TRAIN] * 2 + [Split.HELD_BACK] * 12 + [Split.HELD_OUT_TYPES] * 10
    for number, split in enumerate(splits):
        noise = Image.fromarray(rng.integers(0, 256, (64, 72, 3), np.uint8))
        blur = 4 * float(rng.random())
        kind = "banding" if number % 2 else "occlusion"
        record = {
            "key": f"{number:03d}",
            "photo": f"{number // 2}.jpg",
            "cluster": number // 2,
            "split": split.value,
            "label": 1 - blur / 4,
            "degradations": [{"name": kind, "severity": 0.5, "parameters": {}}],
        }
        image = np.asarray(noise.filter(ImageFilter.GaussianBlur(blur)))
        yield Entry(record=record, image=image)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    out = tmp_path_factory.mktemp("set") / "images"
    plan = {"size": 64, "source": "synthetic degradations of noise", "label": "sharpness"}
    return build_image_set(out, plan=plan, jobs=[0], make=_entries, workers=1, title="test")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    card = ModelCard(
        model="mspt", name="t", description="d", size=96, training_data="none", licence="none"
    )
    save_model(build("mspt"), out, card)
    return out


@pytest.fixture(scope="module")
def compared(images: ImageSet, model_dir: Path) -> tuple[AccuracyRecord, str]:
    models = [("trained", model_dir), ("gone", model_dir / "nowhere")]
    return compare(images, models, baselines=["laplacian"], protocol=PROTOCOL)


def test_single_clusters_give_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    plain = bootstrap_interval(srcc, x, y, n=200, seed=3)
    assert bootstrap_clusters(srcc, x, y, clusters=np.arange(40), n=200, seed=3) == plain


def test_repeated_rows_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    single = bootstrap_interval(srcc, x, y, n=400)
    many = [np.repeat(values, 9) for values in (x, y)]
    grouped = bootstrap_clusters(srcc, *many, clusters=np.repeat(np.arange(40), 9), n=400)
    naive = bootstrap_interval(srcc, *many, n=400)
    width = single.high - single.low
    assert grouped.high - grouped.low == pytest.approx(width, rel=0.05)
    assert naive.high - naive.low < 0.5 * width


def test_clusters_are_drawn_whole() -> None:
    clusters = np.array([7.0, 3, 7, 3, 9])
    seen = []

    def note(drawn: NDArray[np.float64]) -> float:
        seen.append(drawn)
        return 0.0

    bootstrap_clusters(note, clusters, clusters=clusters, n=20)
    counts = [{name: int((draw == name).sum()) for name in (3, 7, 9)} for draw in seen[:20]]
    assert all(c[3] % 2 == 0 and c[7] % 2 == 0 for c in counts)
    assert all(c[3] // 2 + c[7] // 2 + c[9] == 3 for c in counts)
    assert len({tuple(c.values()) for c in counts}) > 3


def test_clusters_must_fit_and_one_has_no_interval() -> None:
    rows = np.arange(4.0)
    with pytest.raises(DataError, match="each row needs a cluster"):
        bootstrap_clusters(srcc, rows, rows, clusters=[0, 1])
    alone = bootstrap_clusters(srcc, rows, rows, clusters=[5, 5, 5, 5])
    assert alone.value == 1.0
    assert math.isnan(alone.low)


def test_figures_equal_scipys() -> None:
    rng = np.random.default_rng(2)
    labels = rng.random(60)
    scores = labels + rng.normal(0, 0.2, 60)
    found = measure_agreement(scores, labels, np.arange(60), fit_rmse=False, resamples=10)
    assert found.srcc.value == pytest.approx(stats.spearmanr(scores, labels).statistic)
    assert found.plcc.value == pytest.approx(stats.pearsonr(scores, labels).statistic)
    assert found.krcc.value == pytest.approx(stats.kendalltau(scores, labels).statistic)
    assert found.rmse.value == pytest.approx(np.sqrt(np.mean((scores - labels) ** 2)))
    assert found.plcc_fitted.value >= found.plcc.value - 1e-6
    shifted = measure_agreement(
        1000 * scores - 7, labels, np.arange(60), fit_rmse=True, resamples=10
    )
    assert shifted.rmse_fitted
    assert shifted.rmse.value < found.rmse.value
    assert shifted.srcc == found.srcc


def test_a_constant_scorer_is_undefined_and_one_without_a_number_is_refused() -> None:
    labels = np.linspace(0, 1, 6)
    constant = measure_agreement(np.ones(6), labels, range(6), fit_rmse=True, resamples=5)
    assert math.isnan(constant.srcc.value)
    assert math.isnan(constant.plcc_fitted.value)
    bad = np.array([0, 1, np.nan, 2, 3, 4])
    with pytest.raises(DataError, match="no finite score: 1 of 6, the first at row 2"):
        measure_agreement(bad, labels, range(6), fit_rmse=True, resamples=5)


def test_groups_are_both_splits_and_each_left_out_kind(images: ImageSet) -> None:
    sizes = {group.name: len(group.rows) for group in list_groups(images)}
    assert sizes == {
        "held_back": 12,
        "held_out_types": 10,
        "held_out_types/banding": 5,
        "held_out_types/occlusion": 5,
    }


def test_the_record_can_be_computed_again_from_the_scores(
    compared: tuple[AccuracyRecord, str],
) -> None:
    record, scores = compared
    table = list(csv.DictReader(io.StringIO(scores)))
    assert len(table) == 22
    for scorer in record.scorers:
        if scorer.error:
            assert scorer.name not in table[0]
            continue
        for split in ("held_back", "held_out_types"):
            rows = [row for row in table if row["split"] == split]
            listed_scores = [float(row[scorer.name]) for row in rows]
            expected = stats.spearmanr(
                listed_scores, [float(row["label"]) for row in rows]
            ).statistic
            found = scorer.groups[split].srcc
            assert found.value == pytest.approx(expected, abs=1e-6)
            assert found.value is not None and found.low is not None and found.high is not None
            assert found.low <= found.value <= found.high


def test_the_record_names_what_was_executed(
    compared: tuple[AccuracyRecord, str], images: ImageSet, model_dir: Path
) -> None:
    record, _ = compared
    assert record.images.index_sha256 == sha256_of(images.path / "index.jsonl")
    trained, gone, laplacian = record.scorers
    cost = measure_cost(build("mspt"), 96)
    assert trained.sha256 == sha256_of(model_dir / "model.safetensors")
    assert (trained.parameters, trained.gflops) == (cost.parameters, cost.gflops)
    assert trained.speed is not None
    assert len(trained.speed.samples_ms) == PROTOCOL.rounds
    assert trained.groups["held_back"].rmse_fitted is False
    assert laplacian.groups["held_back"].rmse_fitted is True
    # Sharper noise has the higher label here.
    sharpness = laplacian.groups["held_back"].srcc.value
    assert sharpness is not None and sharpness > 0.95
    assert gone.error is not None and "CheckpointError" in gone.error
    assert gone.groups == {}


def test_a_scorer_that_fails_on_an_image_does_not_stop_the_others(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefiqa.benchmarks.studies.accuracy import baselines

    def _broken() -> baselines.Baseline:
        def score(image: Any) -> float:
            raise ZeroDivisionError(image.shape)

        return baselines.Baseline(
            name="broken", source="b", parameters_file=None, lower_is_better=False, score=score
        )

    monkeypatch.setitem(baselines.BASELINES._entries, "broken", _broken)
    record, _ = compare(images, [], baselines=["broken", "laplacian"], protocol=PROTOCOL)
    broken, laplacian = record.scorers
    assert broken.error == "ZeroDivisionError: (64, 64, 3)"
    assert laplacian.error is None


def test_tables_are_written_beside_the_record(
    compared: tuple[AccuracyRecord, str], tmp_path: Path
) -> None:
    record, scores = compared
    out = tmp_path / "accuracy.json"
    write_comparison(out, record, scores)
    assert AccuracyRecord.model_validate_json(out.read_bytes()) == record
    text = (tmp_path / "accuracy.md").read_text()
    assert text == accuracy_tables(AccuracyRecord.model_validate_json(out.read_bytes()))
    assert "no human labels" in text
    assert record.images.index_sha256[:12] in text
    assert str(record.scorers[0].sha256)[:12] in text
    assert "| gone | **not measured:** CheckpointError" in text
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1


def test_names_must_differ_and_labels_must_exist(images: ImageSet) -> None:
    with pytest.raises(UsageError, match="a different name"):
        compare(images, [], baselines=["laplacian", "laplacian"], protocol=PROTOCOL)
    records = [{**record, "label": None} for record in images.records]
    unlabelled = ImageSet(path=images.path, meta=images.meta, records=records)
    with pytest.raises(DataError, match="no held-back image has a label"):
        compare(unlabelled, [], baselines=["laplacian"], protocol=PROTOCOL)


def test_the_default_student_is_a_candidate(images: ImageSet) -> None:
    protocol = Protocol(resamples=2, rounds=1)
    record, _ = compare(images, [("student", Path("default"))], baselines=[], protocol=protocol)
    student = record.scorers[0]
    assert student.error is None
    assert student.sha256 == sha256_of(default_model_dir() / "model.safetensors")
    assert student.gflops == pytest.approx(0.3313, abs=5e-5)
