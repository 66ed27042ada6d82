"""The self-training loop on sets so small that a whole loop takes seconds."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.sets import bright_images, bright_set, make_set, unlabelled_set

from edgefiqa.data.batches import draw_batch
from edgefiqa.data.image_set import ImageSet, Split, open_image_set
from edgefiqa.errors import CheckpointError, DataError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.files import write_text as really_write
from edgefiqa.train import build_scorer
from edgefiqa.train.label_table import PseudoLabel, read_labels
from edgefiqa.train.scorers import start_from
from edgefiqa.train.self_training import SelfTrained, SelfTrainingRecipe, pseudo_set, self_train
from edgefiqa.train.tracking import read_log


def make_recipe(**changes: object) -> SelfTrainingRecipe:
    values: dict[str, Any] = {
        "size": 64,
        "teacher": {
            "model": "timm:test_resnet",
            "phases": [{"steps": 8, "batch": 4, "crop": 32}],
            "rate": 5e-3,
            "schedule": {"kind": "cosine"},
            "evaluate_every": 4,
            "log_every": 1,
            "threads": 1,
        },
    }
    values["teacher_plus"] = values["teacher"] | {"rate": 2e-3}
    return SelfTrainingRecipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A labelled set of 40 and unlabelled ones of 70 and 9 images, of two chunks and of one."""
    folder = tmp_path_factory.mktemp("sets")
    unlabelled = [
        unlabelled_set(folder / f"unlabelled-{seed}", count=count, seed=seed).path
        for seed, count in ((1, 70), (2, 9))
    ]
    return bright_set(folder / "labelled").path, unlabelled


@pytest.fixture(scope="module")
def finished(
    sets: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, SelfTrained]:
    out = tmp_path_factory.mktemp("loop")
    return out, self_train(make_recipe(), *sets, out, workers=1)


def meta_of(labels: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((labels / "labels.meta.json").read_text(encoding="utf-8"))
    return found


def test_each_set_is_labelled_by_its_teacher(
    finished: tuple[Path, SelfTrained], sets: tuple[Path, list[Path]]
) -> None:
    out, loop = finished
    assert loop.teachers == (out / "teacher",)
    assert loop.teachers_plus == (out / "teacher-plus",)
    assert loop.labels == (out / "labels-1", out / "labels-2")
    hashes = [sha256_of(out / name / "model.safetensors") for name in ("teacher", "teacher-plus")]
    assert hashes[0] != hashes[1]
    for labels, digest, source in zip(loop.labels, hashes, sets[1], strict=True):
        meta = meta_of(labels)
        assert meta["models"] == [digest]
        assert meta["source"]["identity"] == open_image_set(source).identity
        assert meta["calibration"]["set"] == open_image_set(sets[0]).identity
    card = json.loads((out / "teacher-plus" / "card.json").read_text(encoding="utf-8"))
    assert card["provenance"]["initial"] == hashes[0]
    assert list(card["provenance"]["sets"]) == ["labelled", "D1"]


def logistic(x: np.ndarray, high: float, low: float, middle: float, width: float) -> np.ndarray:
    return low + (high - low) / (1 + np.exp(-(x - middle) / abs(width)))


def least_error(known: np.ndarray, wanted: np.ndarray) -> float:
    """Least squares of the four-parameter logistic by brute force over two of them."""
    errors = []
    for middle in np.linspace(known.min(), known.max(), 60):
        for width in np.geomspace(0.02, 5, 60) * known.std():
            curve = 1 / (1 + np.exp(-(known - middle) / width))
            columns = np.stack((curve, np.ones_like(curve)), axis=1)
            found = np.linalg.lstsq(columns, wanted, rcond=None)[0]
            errors.append(np.square(columns @ found - wanted).sum())
    return float(min(errors))


def test_targets_are_scores_on_the_scale_of_the_labels(
    finished: tuple[Path, SelfTrained], sets: tuple[Path, list[Path]]
) -> None:
    images = open_image_set(sets[0])
    wanted = images.labels[images.rows(Split.TRAIN)].astype(np.float64)
    assert sets[1]
    for labels, source in zip(finished[1].labels, sets[1], strict=True):
        known = np.array([row.raw_score for row in read_labels(labels / "calibration")[0]])
        rows, meta = read_labels(labels)
        fitted = [meta["calibration"]["logistic"][f"b{i}"] for i in range(1, 5)]
        error = np.square(logistic(known, *fitted) - wanted).sum()
        assert error <= 1.02 * least_error(known, wanted)
        raw = np.array([row.raw_score for row in rows])
        expected = logistic(raw, *fitted)
        assert not np.allclose(raw, expected, atol=0.02)
        targets = pseudo_set("D", open_image_set(source), labels).targets
        bounded = np.clip(expected, wanted.min(), wanted.max())
        np.testing.assert_allclose(targets, bounded, atol=1e-5)


def mse_and_correlation(scores: np.ndarray, targets: np.ndarray) -> float:
    """Equations 5 to 7 in numpy, in float64."""
    correlation = np.corrcoef(scores, targets)[0, 1]
    return float(np.mean((scores - targets) ** 2) + (1 - correlation) / 2)


def test_each_sets_mean_loss_counts_once(
    finished: tuple[Path, SelfTrained], sets: tuple[Path, list[Path]]
) -> None:
    """The first loss of teacher+: 24 labelled and 70 pseudo-labelled images weigh the same."""
    out, loop = finished
    recipe = make_recipe().teacher_plus
    model = build_scorer(recipe.model, pretrained=False, seed=1)
    start_from(model, out / "teacher")
    labelled = open_image_set(sets[0])
    rows, _ = read_labels(loop.labels[0])
    pseudo = np.array([row.mapped_score for row in rows])
    parts = []
    with torch.no_grad():
        drawn = [
            draw_batch(images, chosen, first=0, count=4, crop=32, grid=1, seed=recipe.seed + number)
            for number, (images, chosen) in enumerate(
                (
                    (labelled, labelled.rows(Split.TRAIN)),
                    (open_image_set(sets[1][0]), np.arange(70)),
                )
            )
        ]
        scores = model.train()(torch.cat([batch.images for batch in drawn])).double().numpy()
    parts = [
        mse_and_correlation(scores[:4], labelled.labels[drawn[0].rows]),
        mse_and_correlation(scores[4:], pseudo[drawn[1].rows]),
    ]
    first = next(line["loss"] for line in read_log(out / "teacher-plus" / "training_log.jsonl"))
    assert first == pytest.approx(sum(parts), abs=1e-4)


def test_started_again_it_changes_nothing(
    finished: tuple[Path, SelfTrained], sets: tuple[Path, list[Path]]
) -> None:
    out, loop = finished
    files = [*out.glob("*/model.safetensors"), *out.glob("*/labels.csv"), *out.glob("*/*.jsonl")]
    before = {path: path.read_bytes() for path in files}
    trained = (out / "teacher" / "checkpoint.pt").stat().st_mtime_ns
    assert self_train(make_recipe(), *sets, out, workers=1) == loop
    assert {path: path.read_bytes() for path in files} == before
    assert (out / "teacher" / "checkpoint.pt").stat().st_mtime_ns == trained
    with pytest.raises(CheckpointError, match="another recipe"):
        self_train(
            make_recipe(teacher=make_recipe().teacher_plus.model_dump()), *sets, out, workers=1
        )


def test_several_seeds_and_the_labels_they_agree_on(
    sets: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    recipe = make_recipe(seeds=[3, 4], keep_share=0.5)
    loop = self_train(recipe, *sets, tmp_path, workers=1)
    assert [path.name for path in loop.teachers] == ["teacher-3", "teacher-4"]
    assert [path.name for path in loop.teachers_plus] == ["teacher-plus-3", "teacher-plus-4"]
    for teachers, labels in zip((loop.teachers, loop.teachers_plus), loop.labels, strict=True):
        hashes = [sha256_of(path / "model.safetensors") for path in teachers]
        assert meta_of(labels)["models"] == hashes
        assert hashes[0] != hashes[1]
    cards = [json.loads((path / "card.json").read_text()) for path in loop.teachers_plus]
    starts = [card["provenance"]["initial"] for card in cards]
    assert starts == [sha256_of(path / "model.safetensors") for path in loop.teachers]
    rows, _ = read_labels(loop.labels[0])
    spreads = np.array([row.spread for row in rows])
    kept = pseudo_set("D1", open_image_set(sets[1][0]), loop.labels[0], keep_share=0.5)
    assert len(kept.rows) == 35
    assert spreads[kept.rows].max() <= np.delete(spreads, kept.rows).min()
    assert {card["provenance"]["sets"]["D1"][2] for card in cards} == {kept.identity[2]}


def test_full_disk_while_labelling(
    sets: tuple[Path, list[Path]],
    finished: tuple[Path, SelfTrained],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(path: Path, text: str) -> None:
        if path.parent.parent.name == "labels-1" and path.name == "000001.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        really_write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr("edgefiqa.train.pseudo_labels.write_text", write)
        with pytest.raises(DataError, match=r"the disk is full.*free space"):
            self_train(make_recipe(), *sets, tmp_path, workers=1)
    assert (tmp_path / "labels-1" / "chunks" / "000000.csv").is_file()
    assert not (tmp_path / "labels-1" / "labels.meta.json").exists()
    assert not (tmp_path / "teacher-plus").exists()
    resumed = self_train(make_recipe(), *sets, tmp_path, workers=1)
    for label, other in zip(resumed.labels, finished[1].labels, strict=True):
        assert (label / "labels.csv").read_bytes() == (other / "labels.csv").read_bytes()


def overlapping(first: ImageSet, out: Path) -> list[Path]:
    pixels = [*bright_images(8, seed=9)[0], first.image(5)]
    return [first.path, make_set(out, pixels, labels=[None] * 9, first=7000).path]


def holding_back(first: ImageSet, out: Path) -> list[Path]:
    # Other pixels, but the photograph of a held-back image of the labelled set.
    images, _ = bright_images(4, seed=9)
    return [first.path, make_set(out, list(images), labels=[None] * 4, first=26).path]


def once(first: ImageSet, _out: Path) -> list[Path]:
    return [first.path]


@pytest.mark.parametrize(
    ("choose", "fault"),
    [
        (overlapping, "two sets hold the same pixels.*image-1005.*image-7008"),
        (holding_back, "photo that is held back.*image-0026"),
        (once, "needs two unlabelled sets: 1"),
    ],
)
def test_sets_that_must_not_be_trained_on(
    choose: Callable[[ImageSet, Path], list[Path]],
    fault: str,
    sets: tuple[Path, list[Path]],
    tmp_path: Path,
) -> None:
    unlabelled = choose(open_image_set(sets[1][0]), tmp_path / "set")
    with pytest.raises(DataError, match=fault):
        self_train(make_recipe(), sets[0], unlabelled, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_sets_of_another_size(sets: tuple[Path, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"another size.*labelled: 64\. Allowed: 96"):
        self_train(make_recipe(size=96), *sets, tmp_path / "out")
    larger = unlabelled_set(tmp_path / "larger", count=4, seed=5, side=72).path
    with pytest.raises(UsageError, match=r"larger: 72\. Allowed: 64"):
        self_train(make_recipe(), sets[0], [sets[1][0], larger], tmp_path / "out")


def test_labels_of_another_set(
    finished: tuple[Path, SelfTrained], sets: tuple[Path, list[Path]]
) -> None:
    with pytest.raises(DataError, match=r"not in .*image-1000, image-1001, image-1002 \(70 in"):
        pseudo_set("D1", open_image_set(sets[1][1]), finished[1].labels[0])


def test_images_without_a_score_are_left_out(
    sets: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = open_image_set(sets[1][1])
    rows = [PseudoLabel(image=key, raw_score=0.1 * i) for i, key in enumerate(images.keys)][::-1]
    rows[2] = PseudoLabel(image=rows[2].image, error="unreadable")
    monkeypatch.setattr("edgefiqa.train.self_training.read_labels", lambda _: (rows, {}))
    found = pseudo_set("D1", images, Path("labels"))
    assert found.rows.tolist() == [8, 7, 5, 4, 3, 2, 1, 0]
    np.testing.assert_allclose(found.targets, 0.1 * found.rows, rtol=1e-6)


OTHER = make_recipe().teacher.model_dump() | {"model": "timm:test_convnext"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"teacher_plus": OTHER}, "one model for teacher and teacher_plus"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": []}, "at least 1"),
        ({"keep_share": 0.5}, "two seeds or two views"),
        ({"views": 3}, "less than or equal to 2"),
    ],
)
def test_recipes_that_would_fail_after_hours(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        make_recipe(**changes)


def test_recipes_that_look_like_them() -> None:
    make_recipe(teacher_plus=OTHER, from_teacher=False)
    make_recipe(keep_share=0.5, views=2)
    make_recipe(keep_share=0.5, seeds=[1, 2])
