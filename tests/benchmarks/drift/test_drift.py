"""Drift: figures that equal scipy's, intervals that cover, slices, and images that are missing."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from tests.records import FLOAT, executed, images_record, save_scores, score_record

from edgefiqa.benchmarks.drift.run import DriftRules, measure_drift, measure_run
from edgefiqa.errors import DataError, UsageError
from edgefiqa.measuring.figures import FIGURES, PairedScores, measure_figures
from edgefiqa.measuring.image_source import (
    SourceSpec,
    describe_images,
    measure_pixels,
    open_source,
)
from edgefiqa.measuring.records import DriftRecord
from edgefiqa.measuring.resampling import Ranked, draw_weights, weighted_quantile
from edgefiqa.measuring.run_directory import load_run, save_record
from edgefiqa.measuring.slices import SliceRules
from edgefiqa.metrics import bootstrap_clusters, krcc, plcc, srcc

Array = NDArray[np.float64]
RULES = DriftRules(threshold=0.5, resamples=60, worst=5)


def _simulate(n: int, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=n)
    reference = labels + 0.5 * rng.normal(size=n)
    return reference + 0.01 + 0.1 * rng.normal(size=n), reference, labels


def _drift(scores: Array, reference: Array, labels: Array | None, **about: object) -> DriftRecord:
    images = images_record(len(scores), labels=labels, **about)  # type: ignore[arg-type]
    scored, other = score_record(scores), score_record(reference, FLOAT, reference=True)
    return measure_drift(scored, other, images, RULES)


def test_figures_equal_an_independent_computation() -> None:
    scores, reference, labels = _simulate(300)
    scores, labels = scores.round(1), labels.round(1)  # ties
    found = {k: f.value for k, f in _drift(scores, reference, labels).slices["all"].figures.items()}
    error = scores - reference
    fit = stats.linregress(reference, scores)
    expected = {
        "srcc_labels": stats.spearmanr(scores, labels).statistic,
        "plcc_labels": stats.pearsonr(scores, labels).statistic,
        "krcc_labels": stats.kendalltau(scores, labels).statistic,
        "rmse_labels": math.sqrt(np.mean((scores - labels) ** 2)),
        "reference_srcc_labels": stats.spearmanr(reference, labels).statistic,
        "reference_plcc_labels": stats.pearsonr(reference, labels).statistic,
        "reference_krcc_labels": stats.kendalltau(reference, labels).statistic,
        "reference_rmse_labels": math.sqrt(np.mean((reference - labels) ** 2)),
        "srcc_reference": stats.spearmanr(scores, reference).statistic,
        "plcc_reference": stats.pearsonr(scores, reference).statistic,
        "krcc_reference": stats.kendalltau(scores, reference).statistic,
        "rmse_reference": math.sqrt(np.mean(error**2)),
        "bias": error.mean(),
        "scale": fit.slope,
        "offset": fit.intercept,
        "mean_error": np.abs(error).mean(),
        "p99_error": np.quantile(np.abs(error), 0.99),
        "max_error": np.abs(error).max(),
        "flips_to_accept": ((scores >= 0.5) & (reference < 0.5)).sum(),
        "flips_to_reject": ((scores < 0.5) & (reference >= 0.5)).sum(),
    }
    for name in ("srcc", "plcc", "krcc", "rmse"):
        delta = expected[f"{name}_labels"] - expected[f"reference_{name}_labels"]
        expected[f"delta_{name}"] = delta
    expected["flips"] = expected["flips_to_accept"] + expected["flips_to_reject"]
    expected["flip_rate"] = expected["flips"] / 300
    assert set(expected) == set(found) == set(FIGURES)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-10), name


def test_weights_equal_copied_rows() -> None:
    scores, reference, labels = _simulate(40)
    scores = scores.round(1)
    clusters = [str(row // 3) for row in range(40)]
    weights = np.concatenate(list(draw_weights(clusters, n=25, seed=3)))
    assert weights.shape == (25, 40)
    found = PairedScores(scores, reference, labels, threshold=0.2).on(weights, with_krcc=True)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(40), weight.astype(int))
        s, r, y = scores[rows], reference[rows], labels[rows]
        expected = {
            "delta_srcc": srcc(s, y) - srcc(r, y),
            "delta_plcc": plcc(s, y) - plcc(r, y),
            "krcc_reference": krcc(s, r),
            "p99_error": np.quantile(np.abs(s - r), 0.99),
            "scale": np.polyfit(r, s, 1)[0],
            "offset": np.polyfit(r, s, 1)[1],
            "max_error": np.abs(s - r).max(),
            "flip_rate": ((s >= 0.2) != (r >= 0.2)).mean(),
        }
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value, abs=1e-10), name


def test_intervals_equal_the_plain_cluster_bootstrap() -> None:
    scores, reference, labels = _simulate(60)
    clusters = [f"{row // 2:03d}" for row in range(60)]

    def delta(a: Array, b: Array, y: Array) -> float:
        return srcc(a, y) - srcc(b, y)

    expected = bootstrap_clusters(delta, scores, reference, labels, clusters=clusters, n=80, seed=5)
    pairs = PairedScores(scores, reference, labels, threshold=None)
    found = measure_figures(pairs, clusters, resamples=80, seed=5)["delta_srcc"]
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


@pytest.mark.parametrize("q", [0, 0.3, 0.5, 0.99, 1])
def test_quantiles_of_resamples(q: float) -> None:
    values = np.random.default_rng(0).normal(size=17).round(1)
    weights = np.concatenate(list(draw_weights([str(i) for i in range(17)], n=9, seed=0)))
    expected = [np.quantile(np.repeat(values, w.astype(int)), q) for w in weights]
    assert weighted_quantile(Ranked(values), q, weights) == pytest.approx(expected)


def test_pairing_narrows_the_interval_and_clusters_widen_it() -> None:
    scores, reference, labels = _simulate(200)
    pairs = PairedScores(scores, reference, labels, threshold=None)
    single = measure_figures(pairs, map(str, range(200)), resamples=200, with_krcc=False)
    width = {name: (f.high or 0) - (f.low or 0) for name, f in single.items()}
    assert width["delta_srcc"] < 0.5 * width["srcc_labels"]
    many = [np.repeat(values, 5) for values in (scores, reference, labels)]
    copies = PairedScores(many[0], many[1], many[2], threshold=None)
    names = [str(row // 5) for row in range(1000)]
    clustered = measure_figures(copies, names, resamples=200, with_krcc=False)["bias"]
    assert (clustered.high or 0) - (clustered.low or 0) == pytest.approx(width["bias"], rel=0.05)


@pytest.mark.slow
def test_the_interval_covers_the_truth() -> None:
    """Jointly normal scores: SRCC is 6/π · asin(ρ/2), PLCC is ρ, and the bias is the shift."""
    n, repeats = 250, 1000
    rho = [1 / math.sqrt(1 + v) for v in (0.25 + 0.04, 0.25)]
    truth = {
        "delta_srcc": 6 / math.pi * (math.asin(rho[0] / 2) - math.asin(rho[1] / 2)),
        "delta_plcc": rho[0] - rho[1],
        "bias": 0.01,
        "scale": 1.0,
        "srcc_labels": 6 / math.pi * math.asin(rho[0] / 2),
    }
    inside = dict.fromkeys(truth, 0)
    for seed in range(repeats):
        rng = np.random.default_rng(1000 + seed)
        labels = rng.normal(size=n)
        reference = labels + 0.5 * rng.normal(size=n)
        scores = reference + 0.01 + 0.2 * rng.normal(size=n)
        pairs = PairedScores(scores, reference, labels, threshold=None)
        found = measure_figures(
            pairs, map(str, range(n)), resamples=400, seed=seed, with_krcc=False
        )
        for name, value in truth.items():
            low, high = found[name].low, found[name].high
            assert low is not None and high is not None
            inside[name] += low <= value <= high
    for name, count in inside.items():
        assert 0.93 <= count / repeats <= 0.97, (name, count / repeats)


def test_no_labels_leave_the_drift_to_the_reference() -> None:
    scores, reference, _ = _simulate(30)
    figures = _drift(scores, reference, None).slices["all"].figures
    assert figures["srcc_reference"].value is not None
    assert figures["bias"].low is not None
    assert (
        figures["p99_error"].reason == "the bootstrap of a 99th percentile needs 500 images or more"
    )
    for name in ("srcc_labels", "delta_plcc", "reference_rmse_labels"):
        assert figures[name].value is None
        assert figures[name].reason == "the images have no labels"


def test_labels_of_some_images_count_for_those() -> None:
    scores, reference, labels = _simulate(40)
    labels[::4] = np.nan
    images = images_record(40)
    facts = [
        fact.model_copy(update={"label": None if np.isnan(label) else label})
        for fact, label in zip(images.images, labels, strict=True)
    ]
    images = images.model_copy(update={"images": tuple(facts)})
    other = score_record(reference, FLOAT, reference=True)
    part = measure_drift(score_record(scores), other, images, RULES).slices["all"]
    known = np.isfinite(labels)
    assert (part.n, part.n_labelled) == (40, 30)
    expected = srcc(scores[known], labels[known]) - srcc(reference[known], labels[known])
    assert part.figures["delta_srcc"].value == pytest.approx(expected)
    assert part.figures["bias"].value == pytest.approx((scores - reference).mean())


def test_one_image_is_defined_as_far_as_it_can_be() -> None:
    figures = _drift(np.array([0.6]), np.array([0.4]), np.array([0.5])).slices["all"].figures
    assert figures["bias"].value == pytest.approx(0.2)
    assert figures["bias"].reason == "an interval needs two clusters or more"
    assert figures["flips_to_accept"].value == 1
    assert figures["delta_srcc"].value is None
    assert figures["delta_srcc"].reason == "a correlation needs two images or more"


@pytest.mark.parametrize(
    ("scores", "reference", "reason"),
    [
        (np.ones(9), np.linspace(0, 1, 9), "all scores are the same"),
        (np.linspace(0, 1, 9), np.ones(9), "all scores of the reference are the same"),
        (np.ones(9), np.ones(9), "all scores are the same"),
    ],
)
def test_constant_scores_have_no_correlation(scores: Array, reference: Array, reason: str) -> None:
    figures = _drift(scores, reference, np.linspace(0, 1, 9)).slices["all"].figures
    assert figures["srcc_reference"].value is None
    assert figures["srcc_reference"].reason == reason
    assert figures["mean_error"].value is not None
    assert (figures["scale"].value is None) == (np.ptp(reference) == 0)


def test_constant_labels_say_so() -> None:
    scores, reference, _ = _simulate(9)
    figures = _drift(scores, reference, np.ones(9)).slices["all"].figures
    assert figures["srcc_labels"].reason == "all labels are the same"
    assert figures["srcc_reference"].value is not None


def test_images_without_a_score_are_counted_and_in_no_figure() -> None:
    scores, reference, labels = _simulate(20)
    scores[3], reference[7] = np.nan, np.nan
    record = _drift(scores, reference, labels)
    assert record.failed == 2
    assert record.slices["all"].n == 18
    assert not {"0003.png", "0007.png"} & {worst.key for worst in record.worst}
    nothing = _drift(np.full(3, np.nan), np.ones(3), None)
    assert nothing.slices["all"].figures["bias"].reason == "no image was scored by both"
    assert nothing.worst == ()


def test_worst_images_come_first() -> None:
    scores, reference, labels = _simulate(50)
    scores[11], scores[30] = reference[11] - 3, reference[30] + 2
    record = _drift(scores, reference, labels)
    assert [worst.key for worst in record.worst[:2]] == ["0011.png", "0030.png"]
    assert record.worst[0].error == pytest.approx(-3)
    assert len(record.worst) == 5


def test_slices_hold_the_images_they_name() -> None:
    scores, reference, labels = _simulate(24)
    scores[:6] += 1.0  # all of the drift is in the dark
    facts: list[dict[str, object]] = [
        {
            "luminance": 20.0 if row < 6 else 120.0,
            "sharpness": 10.0 if row % 2 else 900.0,
            "short_side": 8 if row >= 20 else 64,
            "kinds": ("jpeg",) if row < 12 else (),
            "columns": {"camera": "front" if row % 3 else "back", "age": str(row)},
        }
        for row in range(24)
    ]
    slices = _drift(scores, reference, labels, facts=facts).slices
    assert {name: part.n for name, part in slices.items()} == {
        "all": 24,
        "dark": 6,
        "blurred": 12,
        "small": 4,
        "kind/jpeg": 12,
        "kind/none": 12,
        "camera=back": 8,
        "camera=front": 16,
        "age=low": 8,
        "age=middle": 8,
        "age=high": 8,
    }
    dark = slices["dark"].figures
    assert dark["bias"].value == pytest.approx((scores - reference)[:6].mean())
    assert dark["krcc_labels"].value is None
    assert abs(slices["camera=front"].figures["bias"].value or 0) < 0.5


def test_columns_must_exist_and_be_few_or_numbers() -> None:
    facts: list[dict[str, object]] = [{"columns": {"name": f"person {row}"}} for row in range(20)]
    images = images_record(20, facts=facts)
    scores, reference, _ = _simulate(20)
    scored, other = score_record(scores), score_record(reference, FLOAT)
    with pytest.raises(UsageError, match="20 different texts"):
        measure_drift(scored, other, images, RULES)
    rules = DriftRules(slices=SliceRules(columns=("age",)))
    with pytest.raises(UsageError, match="no image has this column"):
        measure_drift(scored, other, images, rules)


def test_scores_of_other_images_are_refused() -> None:
    scores, reference, _ = _simulate(5)
    other = score_record(reference, FLOAT, sha256="2" * 64)
    with pytest.raises(DataError, match="of other images"):
        measure_drift(score_record(scores), other, images_record(5), RULES)


def test_each_record_names_its_own_file(tmp_path: Path) -> None:
    scores, reference, labels = _simulate(12)
    files = [executed("a.onnx", sha256="a" * 64), executed("b.onnx", sha256="b" * 64)]
    run = save_scores(
        tmp_path,
        images_record(12, labels=labels),
        score_record(reference, FLOAT, reference=True),
        *(score_record(scores + step, file) for step, file in enumerate(files)),
    )
    records = list(measure_run(run, RULES))
    assert [record.executed for record in records] == files
    assert {record.reference.sha256 for record in records} == {"f" * 64}
    assert tuple(records) == load_run(tmp_path).drift
    bias = [record.slices["all"].figures["bias"].value or 0 for record in records]
    assert bias[1] - bias[0] == pytest.approx(1)


def test_without_a_reference_there_is_no_drift(tmp_path: Path) -> None:
    run = save_scores(tmp_path, images_record(2), score_record([0.1, 0.2]))
    with pytest.raises(DataError, match="nothing to compare with"):
        list(measure_run(run, RULES))


def test_brightness_and_sharpness_are_measured() -> None:
    flat = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    assert measure_pixels(flat) == pytest.approx((0.299 * 255, 0))
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 255
    image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    luminance, sharpness = measure_pixels(image)
    assert luminance == pytest.approx(127.5)
    # The Laplacian is ±4 · 255, half of each.
    assert sharpness == pytest.approx((4 * 255) ** 2)


def test_a_folder_of_photographs_is_a_source(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    labels, columns = tmp_path / "labels.csv", tmp_path / "columns.csv"
    labels.write_text("image,score\na.png,0.1\nc.png,0.9\n")
    columns.write_text("name,camera\nb,front\nsub/c.png,back\n")
    spec = SourceSpec(path=folder, labels=labels, columns=columns)
    source = open_source(spec)
    record = describe_images(source, 16)
    facts = {fact.key: fact for fact in record.images}
    assert list(facts) == ["a.png", "b.png", "broken.png", "sub/c.png"]
    assert [fact.label for fact in facts.values()] == [0.1, None, None, 0.9]
    assert facts["b.png"].columns == {"camera": "front"}
    assert facts["sub/c.png"].columns == {"camera": "back"}
    assert facts["a.png"].short_side == 20
    assert facts["broken.png"].luminance is None
    assert "not an image" in (facts["broken.png"].error or "")
    assert source.tensor(0, 16).shape == (1, 16, 16, 3)
    assert open_source(spec).identity == source.identity
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "a.png")
    assert open_source(spec).identity != source.identity
    assert len(open_source(SourceSpec(path=folder, limit=2))) == 2
    labels.write_text("image,score\nz.png,0.1\n")
    with pytest.raises(DataError, match="names none of the images"):
        open_source(spec)


def test_thumbnails_of_the_worst_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for row in range(3):
        Image.fromarray(np.full((400, 300, 3), 60 * row, np.uint8)).save(folder / f"{row:04d}.png")
    source = open_source(SourceSpec(path=folder))
    images = describe_images(source, 16)
    scored = score_record([0.1, 0.2, 0.9], sha256=source.identity)
    other = score_record([0.1, 0.2, 0.3], FLOAT, reference=True, sha256=source.identity)
    for record in (scored, other):
        renamed = record.model_copy(update={"images": images.identity})
        save_record(tmp_path / "run", renamed)
    save_record(tmp_path / "run", images)
    (record_,) = measure_run(load_run(tmp_path / "run"), RULES, source=source)
    thumbnail = record_.worst[0].thumbnail
    assert record_.worst[0].key == "0002.png"
    assert thumbnail is not None
    with Image.open(tmp_path / "run" / thumbnail) as small:
        assert max(small.size) == 160
