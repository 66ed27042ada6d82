"""The ablation: what its students share, what differs, and what is printed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr, ttest_rel
from tests.sets import bright_set, unlabelled_set

import edgefiqa.distill
from edgefiqa.data.image_set import Split, open_image_set
from edgefiqa.distill.ablation import AblationRecipe, run
from edgefiqa.distill.ablation_table import MeasuredStudent, describe, render
from edgefiqa.errors import CheckpointError
from edgefiqa.files import sha256_of
from edgefiqa.models import ModelCard
from edgefiqa.recipe import load_recipe

assert edgefiqa.distill.__file__
RECIPE = Path(edgefiqa.distill.__file__).parent / "recipes" / "ablation_cpu.yaml"
ARMS: tuple[tuple[str, ...], ...] = ((), ("D1",), ("D1", "D2"))


def values(**changes: Any) -> dict[str, Any]:
    training: dict[str, Any] = {
        "model": "timm:test_convnext",
        "phases": [{"steps": 2, "batch": 6, "crop": 48}],
        "rate": 1e-3,
        "schedule": {"kind": "cosine"},
        "evaluate_every": 100,
        "threads": 1,
    }
    teaching = {"size": 48, "teacher": training, "teacher_plus": training}
    settings = {"seeds": [1, 2], "labelled_images": 12, "unlabelled_images": 8, "resamples": 20}
    whole = {"self_training": teaching, "size": 48, "student": training, "resolutions": [32, 48]}
    return {**settings, **whole, **changes}


@pytest.fixture
def sets(tmp_path: Path) -> list[Path]:
    """Labelled and two unlabelled sets of other images."""
    others = [unlabelled_set(tmp_path / f"u{n}", count=10, seed=n).path for n in (1, 2)]
    return [bright_set(tmp_path / "labelled").path, *others]


def test_shipped_recipe() -> None:
    recipe = load_recipe(RECIPE, AblationRecipe)
    assert len(recipe.seeds) == 3
    assert recipe.size in recipe.resolutions
    # The last weights are measured: no held-back image chooses any.
    for training in (recipe.student, recipe.self_training.teacher):
        assert (training.evaluate_every or 0) > sum(p.steps or 0 for p in training.phases)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"guidance": {"feature_weight": 0}}, "no guidance"),
        ({"pseudo": ["D1"]}, "both pseudo-labelled sets"),
        ({"resolutions": [24]}, r"crops are \[24\] at size 24"),
        ({"size": 40}, r"crops are \[48\] at size 40"),
    ],
)
def test_recipes_that_compare_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AblationRecipe.model_validate(values(**changes))


def test_batches_that_cannot_be_divided() -> None:
    student = {**values()["student"], "phases": [{"steps": 2, "batch": 8, "crop": 48}]}
    with pytest.raises(ValidationError, match="batches that 2 and 3 divide"):
        AblationRecipe.model_validate(values(student=student))


@pytest.mark.slow
def test_whole_and_resumed(sets: list[Path], tmp_path: Path) -> None:
    recipe, out = AblationRecipe.model_validate(values()), tmp_path / "out"
    record = run(recipe, sets[0], sets[1:], out, workers=1)
    assert json.loads((out / "ablation.json").read_text(encoding="utf-8")) == record
    assert (out / "ablation.md").read_text(encoding="utf-8") == render(record)
    assert (record["images"], record["clusters"]) == (8, 8)
    assert record["data"]["labelled_images"] == [12, 12]
    assert record["data"]["unlabelled_images"] == [8, 8]

    students = record["students"]
    assert [(s["seed"], s["sets"], s["size"]) for s in students] == [
        (seed, *about)
        for seed in (1, 2)
        for about in (
            ("labelled", 48),
            ("labelled + D1", 48),
            ("labelled + D1 + D2", 48),
            ("labelled + D1 + D2", 32),
        )
    ]
    folder = out / "seed-1" / "student-labelled-D1-D2-32"
    card = ModelCard.load(folder / "card.json")
    assert students[3]["sha256"] == card.sha256 == sha256_of(folder / "model.safetensors")
    assert card.size == 32
    assert set(card.provenance["sets"]) == {"labelled", "D1", "D2"}
    # Equal steps of equally many images, divided among the sets.
    assert {s["steps"] for s in students} == {2}
    phases = [
        ModelCard.load(out / "seed-1" / name / "card.json").provenance["recipe"]["phases"][0]
        for name in ("student-labelled-48", "student-labelled-D1-48", folder.name)
    ]
    assert [(p["batch"], p["crop"]) for p in phases] == [(6, 48), (3, 48), (2, 32)]
    # Each seed draws other labelled images, and all have the same held-back ones.
    drawn = [open_image_set(out / "sets" / f"labelled-48-seed-{seed}") for seed in (1, 2)]
    keys = [
        [{images.keys[row] for row in images.rows(split)} for images in drawn]
        for split in (Split.TRAIN, Split.HELD_BACK)
    ]
    assert keys[0][0] != keys[0][1]
    assert keys[1][0] == keys[1][1]

    # Interrupted before the last student was measured: it alone is measured, none is trained again.
    def stamps(name: str) -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in out.glob(f"seed-*/*/{name}")}

    last = out / "seed-2" / "student-labelled-D1-48"
    results, scores = stamps("result.json"), stamps("scores.json")
    (last / "scores.json").unlink()
    assert run(recipe, sets[0], sets[1:], out, workers=1) == record
    assert stamps("result.json") == results
    again = {p for p, stamp in stamps("scores.json").items() if stamp != scores[p]}
    assert again == {last / "scores.json"}

    other = AblationRecipe.model_validate(values(labelled_images=11))
    with pytest.raises(CheckpointError, match="another recipe or of other sets"):
        run(other, sets[0], sets[1:], out, workers=1)
    (last / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="not the weights that were measured"):
        run(recipe, sets[0], sets[1:], out, workers=1)


def students(noises: tuple[float, ...], seeds: int = 3) -> list[MeasuredStudent]:
    """Return students whose scores are labels with noise, less or more of it by arm."""
    rng = np.random.default_rng(0)
    labels = rng.random(120)
    return [
        MeasuredStudent(
            arm=arm,
            size=160,
            seed=seed,
            sha256=f"{seed}{len(arm)}".ljust(64, "0"),
            steps=7,
            scores=labels + noise * rng.normal(size=120),
            labels=labels,
            clusters=np.repeat(np.arange(30), 4),
        )
        for seed in range(seeds)
        for arm, noise in zip(ARMS, noises, strict=True)
    ]


def test_figures_are_those_of_scipy() -> None:
    found = students((0.5, 0.2, 0.1))
    record = describe(found, resolutions=(160,), resamples=50)
    assert record["order_holds"] is True
    groups = [[s for s in found if s.arm == arm] for arm in ARMS]
    values = [[spearmanr(s.scores, s.labels).statistic for s in group] for group in groups]
    for row, value in zip(record["table_2"], values, strict=True):
        assert row["srcc"]["value"] == pytest.approx(np.mean(value), abs=1e-6)
        assert row["srcc"]["seeds"] == pytest.approx(value, abs=1e-6)
        assert row["srcc"]["low"] < row["srcc"]["value"] < row["srcc"]["high"]
    for number, entry in enumerate(record["differences"]):
        paired = ttest_rel(values[number + 1], values[number])
        interval = paired.confidence_interval(0.95)
        assert entry["srcc"]["t_interval"] == pytest.approx(list(interval), abs=1e-5)
        wanted = np.mean(values[number + 1]) - np.mean(values[number])
        assert entry["srcc"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert record["table_3"] == [{**record["table_2"][2]}]


@pytest.mark.parametrize(
    ("noises", "holds"),
    [((0.5, 0.2, 0.1), True), ((0.1, 0.2, 0.3), False), ((0.5, 0.1, 0.3), False)],
)
def test_table_says_whether_the_order_holds(noises: tuple[float, ...], holds: bool) -> None:
    figures = describe(students(noises), resolutions=(), resamples=10)
    data = {
        "labelled": {"identity": "a" * 64, "label": "some"},
        "unlabelled": ["b" * 64, "c" * 64],
        "labelled_images": [30, 32, 30],
        "unlabelled_images": [50, 60],
    }
    recipe = {"student": {"phases": [{"batch": 24}]}}
    text = render({"recipe": recipe, "data": data, **figures})
    assert ("with + D2: yes." in text) is holds
    assert "All students take 7 optimiser steps of 24 images, divided evenly" in text
    assert "(30 to 32)" in text
    assert text.count("| labelled + D1 + D2 | 160² |") == 1 + 3
    assert "## Resolution" not in text


def test_one_seed_and_constant_scores() -> None:
    found = students((0.3, 0.2, 0.1), seeds=1)
    still = [MeasuredStudent(**{**vars(s), "scores": np.zeros(120)}) if s.arm else s for s in found]
    record = describe(still, resolutions=(), resamples=10)
    assert record["order_holds"] is False
    assert record["differences"][0]["srcc"]["t_interval"] is None
    assert record["table_2"][1]["srcc"]["value"] is None
    json.dumps(record, allow_nan=False)
