import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.sets import bright_set
from torch import Tensor, nn

import edgefiqa.train
from edgefiqa.data.image_set import ImageSet, Split
from edgefiqa.errors import CheckpointError, DataError
from edgefiqa.files import sha256_of
from edgefiqa.models import ModelCard, load_model, save_model
from edgefiqa.recipe import load_recipe
from edgefiqa.train import (
    Lite0Scorer,
    TrainRecipe,
    View,
    build_scorer,
    evaluate,
    fit,
    labelled_rows,
    load_scorer,
    score_images,
)
from edgefiqa.train.cards import CardText
from edgefiqa.train.run import run

assert edgefiqa.train.__file__
RECIPES = Path(edgefiqa.train.__file__).parent / "recipes"
MakeRecipe = Callable[..., TrainRecipe]


def test_what_a_run_leaves(
    tiny_set: Path, images: ImageSet, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    result = run(make_recipe(), tiny_set, tmp_path)
    assert result.sha256 == sha256_of(tmp_path / "model.safetensors")
    written = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert written["sha256"] == result.sha256
    assert [(m["split"], m["n"]) for m in written["metrics"]] == [
        ("held_back", 8),
        ("held_out_types", 8),
    ]
    assert {m["sha256"] for m in written["metrics"]} == {result.sha256}
    model, card = load_model(tmp_path)
    assert card.size == 64
    found = evaluate(model, images, images.rows(Split.HELD_BACK))
    assert found["srcc"] == written["metrics"][0]["srcc"]
    scorer = load_scorer(tmp_path)
    assert not scorer.training
    assert not any(p.requires_grad for p in scorer.parameters())
    scores = [score_images(m, images, np.arange(8)) for m in (model, scorer)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_a_finished_run_is_measured_once(
    tiny_set: Path, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(make_recipe(), tiny_set, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("edgefiqa.train.run.fit", pytest.fail)
        assert run(make_recipe(), tiny_set, tmp_path) == first
    # Weights that are not the measured ones are made again, from the checkpoint.
    (tmp_path / "model.safetensors").write_bytes(b"changed")
    assert run(make_recipe(), tiny_set, tmp_path).sha256 == first.sha256
    with pytest.raises(CheckpointError, match="another"):
        run(make_recipe(rate=0.5), tiny_set, tmp_path)


@pytest.mark.parametrize("field", ["description", "held_back"])
def test_other_words_on_the_card_of_a_finished_run(
    field: str, tiny_set: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    words = CardText(name="x", version="0", description="x", training_data="x", licence="x")
    first = run(make_recipe(), tiny_set, tmp_path, text=words)
    other = words.model_copy(update={field: "in other words"})
    assert run(make_recipe(), tiny_set, tmp_path, text=other).sha256 == first.sha256
    card = json.loads((tmp_path / "card.json").read_text())
    found = {"description": card["description"], "held_back": card["metrics"][0]["data"]}
    assert [name for name, text in found.items() if text == "in other words"] == [field]


def test_start_from_a_trained_scorer(
    tiny_set: Path, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    first = run(make_recipe(), tiny_set, tmp_path / "first")
    # So small a rate moves nothing: what comes out is what went in.
    recipe = make_recipe(rate=1e-30, seed=7)
    second = run(recipe, tiny_set, tmp_path / "second", initial=tmp_path / "first")
    assert second.sha256 == first.sha256
    other = make_recipe(model="timm:test_resnet")
    with pytest.raises(CheckpointError, match="do not fit the model of this recipe"):
        run(other, tiny_set, tmp_path / "third", initial=tmp_path / "first")


def test_lite0_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Lite0Scorer(pretrained=False).eval()
    card = ModelCard(
        model="lite0", name="x", description="x", size=64, training_data="x", licence="x"
    )
    save_model(model, tmp_path / "folder", card)
    save_file(model.state_dict(), tmp_path / "bare.safetensors")
    images = torch.randn(2, 3, 64, 64)
    for path in (tmp_path / "folder", tmp_path / "bare.safetensors"):
        loaded = load_scorer(path)
        assert isinstance(loaded, Lite0Scorer)
        with torch.inference_mode():
            torch.testing.assert_close(loaded(images), model(images))


def test_weights_that_are_not_there_or_were_changed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained scorer"):
        load_scorer(tmp_path)
    card = ModelCard(
        model="lite0", name="x", description="x", size=64, training_data="x", licence="x"
    )
    save_model(Lite0Scorer(pretrained=False), tmp_path, card)
    save_model(Lite0Scorer(pretrained=False), tmp_path / "other", card)
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not the ones their card describes"):
        load_scorer(tmp_path)


def test_new_scorers_start_in_the_middle() -> None:
    images = torch.randn(4, 3, 64, 64)
    for name in ("efficient-fiqa-student", "mspt", "timm:test_convnext"):
        model = build_scorer(name, pretrained=False, seed=1).eval()
        with torch.inference_mode():
            assert abs(model(images).mean().item() - 0.5) < 0.4
        same = build_scorer(name, pretrained=False, seed=1)
        assert all(
            torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True)
        )


def test_set_without_a_held_back_split(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    images = bright_set(tmp_path / "set", train=6, held=0)
    with pytest.raises(DataError, match=r"no images of the split 'held_back'"):
        run(make_recipe(), images.path, tmp_path / "out")


class Left(nn.Module):
    """The mean of the left half of the square."""

    def forward(self, images: Tensor) -> Tensor:
        return images[..., : images.shape[-1] // 2].mean((1, 2, 3))


def test_views_are_averaged(images: ImageSet) -> None:
    rows = images.rows()
    plain, mirrored, both = (
        score_images(Left(), images, rows, views=views)
        for views in ((View.PLAIN,), (View.MIRRORED,), (View.PLAIN, View.MIRRORED))
    )
    assert not np.allclose(plain, mirrored, atol=1e-4)
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-6)


def test_scoring_does_not_depend_on_the_batch(images: ImageSet) -> None:
    torch.manual_seed(0)
    teacher = Lite0Scorer(pretrained=False)
    one = score_images(teacher, images, np.arange(6), batch=1)
    six = score_images(teacher, images, np.arange(6), batch=6)
    np.testing.assert_allclose(one, six, atol=1e-5)
    assert teacher.training
    assert score_images(teacher, images, np.arange(0)).shape == (0,)


@pytest.mark.slow
def test_published_teacher_takes_a_step(tmp_path: Path) -> None:
    """Swin-B, the published recipe but for its length, batch, crop and downloaded start."""
    images = bright_set(tmp_path / "set", train=4, held=2, side=224)
    published = load_recipe(RECIPES / "efficient_fiqa.yaml", TrainRecipe)
    phase = published.phases[0].model_copy(
        update={"epochs": None, "steps": 1, "batch": 2, "crop": 224}
    )
    recipe = published.model_copy(update={"phases": (phase,), "pretrained": False})
    model = build_scorer(recipe.model, pretrained=False, seed=0)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(86.87e6, rel=0.01)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sets = [labelled_rows(images, Split.TRAIN)]
    result = fit(model, sets, labelled_rows(images, Split.HELD_BACK), recipe, tmp_path / "out")
    assert result.steps == 1
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > 0.9 * len(before)
    (tmp_path / "out" / "checkpoint.pt").unlink()
