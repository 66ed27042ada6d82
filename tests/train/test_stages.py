"""Multi-stage training: what each stage draws from, starts from and leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.sets import bright_images, bright_set, make_set
from tests.train.conftest import recipe_values

import edgefiqa.train
from edgefiqa.data.image_set import ImageSet, Split, open_image_set
from edgefiqa.errors import CheckpointError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.models import load_model
from edgefiqa.recipe import load_recipe
from edgefiqa.train import StagedRecipe, evaluate, labelled_rows
from edgefiqa.train.checkpoints import save_checkpoint
from edgefiqa.train.label_table import META_NAME, PseudoLabel, write_rows
from edgefiqa.train.stages import (
    NamedData,
    join_sets,
    parse_data,
    run_stages,
    stage_sets,
    train_recipe,
)

assert edgefiqa.train.__file__
RECIPES = Path(edgefiqa.train.__file__).parent / "recipes"


def staged(**changes: Any) -> dict[str, Any]:
    """Three tiny stages of 32, 48 and 64 pixels."""
    sizes = {"low": (32, "labelled"), "middle": (48, "pseudo_1"), "high": (64, "pseudo_2")}
    stages = [
        {
            "name": name,
            "size": size,
            "sets": [chosen],
            "replay": 0.0 if name == "low" else 0.5,
            "train": recipe_values(
                phases=[{"steps": 4, "batch": 4, "crop": 32}], evaluate_every=2, **changes
            ),
        }
        for name, (size, chosen) in sizes.items()
    ]
    return {"stages": stages}


@pytest.fixture
def three_sets(tmp_path: Path) -> list[NamedData]:
    """A labelled set, one with pseudo-labels, and another labelled one."""
    labelled = bright_set(tmp_path / "labelled")
    pixels, targets = bright_images(10, seed=1)
    first = make_set(tmp_path / "first", list(pixels), labels=[None] * 10)
    rows = [
        PseudoLabel(image=key, sha256="x", raw_score=9.0, mapped_score=float(target))
        for key, target in zip(first.keys, targets, strict=True)
    ]
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "labels.csv").write_text(write_rows(rows), encoding="utf-8")
    (labels / META_NAME).write_text("{}", encoding="utf-8")
    pixels, targets = bright_images(6, seed=2)
    second = make_set(tmp_path / "second", list(pixels), labels=targets.tolist())
    return [
        NamedData(name="labelled", path=labelled.path),
        NamedData(name="pseudo_1", path=first.path, labels=labels),
        NamedData(name="pseudo_2", path=second.path),
    ]


@pytest.mark.parametrize("name", ["mspt.yaml", "mspt_cpu.yaml"])
def test_shipped_recipes(name: str) -> None:
    stages = load_recipe(RECIPES / name, StagedRecipe).stages
    sizes = [stage.size for stage in stages]
    assert sizes == sorted(set(sizes))
    assert [stage.replay for stage in stages] == [0.0, 0.5, 0.5]
    rates = [stage.train.rate for stage in stages]
    assert rates == sorted(set(rates), reverse=True)
    for stage in stages:
        assert all(phase.crop <= stage.size for phase in stage.train.phases)


def test_names_and_labels_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd:name").mkdir()
    assert parse_data("sets/a") == NamedData(name="labelled", path=Path("sets/a"))
    assert parse_data("b=sets/a") == NamedData(name="b", path=Path("sets/a"))
    wanted = NamedData(name="b", path=Path("sets/a"), labels=Path("runs/l"))
    assert parse_data("b=sets/a:runs/l") == wanted
    assert parse_data("odd:name").path == Path("odd:name")
    assert parse_data("/sets/a=b").path == Path("/sets/a=b")


def test_union_is_one_set_after_the_other(three_sets: list[NamedData]) -> None:
    first, second = (open_image_set(three_sets[i].path) for i in (0, 2))
    named = {"a": first, "b": second}
    parts = [labelled_rows(images, Split.TRAIN, name=name) for name, images in named.items()]
    union = join_sets(parts, weight=0.25, batch=3)
    assert (union.name, union.weight, union.batch, union.images.size) == ("a+b", 0.25, 3, 64)
    assert len(union.rows) == 24 + 6
    seen = [union.images.image(int(row)) for row in union.rows]
    wanted = [part.images.image(int(row)) for part in parts for row in part.rows]
    assert all(np.array_equal(a, b) for a, b in zip(seen, wanted, strict=True))
    np.testing.assert_array_equal(union.images.labels[union.rows], union.targets)
    assert union.images.records[len(first)]["key"] == second.keys[0]
    swapped = join_sets(parts[::-1])
    assert swapped.images.identity != union.images.identity


def test_batches_are_shared_out(three_sets: list[NamedData]) -> None:
    images = open_image_set(three_sets[0].path)
    sets = [labelled_rows(images, Split.TRAIN, name=n) for n in "abc"]
    recipe = StagedRecipe.model_validate(staged())
    new, replayed = stage_sets(recipe.stages[2], sets[2:], sets[:2])
    assert (new.name, new.batch, new.weight) == ("c", 2, 0.5)
    assert (replayed.name, replayed.batch, replayed.weight) == ("a+b", 2, 0.5)
    assert stage_sets(recipe.stages[0], sets[:1], []) == [sets[0]]
    (alone,) = stage_sets(recipe.stages[1], sets[:1], [])
    assert alone.batch is None
    for replay in (0.01, 1.0):
        stage = recipe.stages[1].model_copy(update={"replay": replay})
        with pytest.raises(UsageError, match="cannot share out"):
            stage_sets(stage, sets[:1], sets[1:])


def test_stages_follow_each_other(three_sets: list[NamedData], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_stages(StagedRecipe.model_validate(staged()), three_sets, out, workers=1)
    assert [(s["stage"], s["new"], s["replayed"]) for s in result.stages] == [
        ("low", ["labelled"], []),
        ("middle", ["pseudo_1"], ["labelled"]),
        ("high", ["pseudo_2"], ["labelled", "pseudo_1"]),
    ]
    cards = [load_model(out / name)[1] for name in ("low", "middle", "high")]
    assert [card.size for card in cards] == [32, 48, 64]
    assert [card.provenance["initial"] for card in cards] == [None, *(c.sha256 for c in cards[:2])]
    # The pseudo-labels that were mapped, not the raw ones, at the stage's size.
    assert set(cards[1].provenance["sets"]) == {"pseudo_1", "labelled"}
    assert open_image_set(out / "sets" / "pseudo_1-48").size == 48

    model, card = load_model(out)
    assert (card.name, card.size, card.sha256) == ("out", 64, cards[2].sha256)
    assert sha256_of(out / "model.safetensors") == card.sha256
    assert [s["sha256"] for s in card.provenance["stages"]] == [c.sha256 for c in cards]
    written = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert (written["steps"], written["directory"]) == (12, str(out))
    images: ImageSet = open_image_set(three_sets[0].path)
    found = evaluate(model, images, images.rows(Split.HELD_BACK))
    assert found["srcc"] == written["metrics"][0]["srcc"]


@pytest.mark.slow
def test_killed_between_and_within_stages(
    three_sets: list[NamedData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = StagedRecipe.model_validate(staged())
    whole = run_stages(recipe, three_sets, tmp_path / "whole", workers=1)
    out = tmp_path / "resumed"
    saved: list[Path] = []

    def save_and_die(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        saved.append(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edgefiqa.train.loop.save_checkpoint", save_and_die)
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                run_stages(recipe, three_sets, out, workers=1)
    # Each attempt went on: none of these steps was taken twice.
    assert [path.parent.name for path in saved] == ["low", "low", "middle", "middle"]
    resumed = run_stages(recipe, three_sets, out, workers=1)
    assert resumed.sha256 == whole.sha256
    assert [s["sha256"] for s in resumed.stages] == [s["sha256"] for s in whole.stages]
    other = StagedRecipe.model_validate(staged(weight_decay=0.5))
    with pytest.raises(CheckpointError, match="another recipe"):
        run_stages(other, three_sets, out, workers=1)


def test_one_set_for_all_stages(three_sets: list[NamedData], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(staged()), encoding="utf-8")
    result = train_recipe(path, three_sets[:1], tmp_path / "out")
    assert result.metrics[0]["n"] == 8
    card = load_model(tmp_path / "out")[1]
    assert [s["new"] for s in card.provenance["stages"]] == [["labelled"]] * 3
    assert [s["replayed"] for s in card.provenance["stages"]] == [[]] * 3
    assert [s["size"] for s in card.provenance["stages"]] == [32, 48, 64]


def test_plain_recipe_with_a_pseudo_set(
    write_recipe: Callable[..., Path], three_sets: list[NamedData], tmp_path: Path
) -> None:
    path = write_recipe(phases=[{"steps": 2, "batch": 4, "crop": 32}])
    train_recipe(path, three_sets[:2], tmp_path / "out")
    card = load_model(tmp_path / "out")[1]
    assert set(card.provenance["sets"]) == {"labelled", "pseudo_1"}
    assert card.size == 64


def test_sets_that_do_not_fit(three_sets: list[NamedData], tmp_path: Path) -> None:
    recipe = StagedRecipe.model_validate(staged())
    with pytest.raises(UsageError, match=r"not given: 'pseudo_2'.*--data pseudo_2=SET"):
        run_stages(recipe, three_sets[:2], tmp_path / "out", workers=1)
    with pytest.raises(UsageError, match="different names"):
        run_stages(recipe, three_sets[:1] * 2, tmp_path / "out", workers=1)
    values = staged()
    values["stages"][2]["size"] = 96
    larger = StagedRecipe.model_validate(values)
    with pytest.raises(UsageError, match="smaller than the recipe asks for"):
        run_stages(larger, three_sets, tmp_path / "out", workers=1)
    # Known before the first stage was trained.
    assert not (tmp_path / "out" / "low").exists()
