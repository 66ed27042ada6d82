from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import edgefiqa.train
from edgefiqa.errors import RecipeError
from edgefiqa.recipe import load_recipe
from edgefiqa.train import StagedRecipe, TrainRecipe
from edgefiqa.train.settings import ResolutionPhase, StepSchedule

assert edgefiqa.train.__file__
RECIPES = Path(edgefiqa.train.__file__).parent / "recipes"
ALL = sorted(RECIPES.glob("*.yaml"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_shipped_recipes_load(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    kind = StagedRecipe if "stages" in yaml.safe_load(text) else TrainRecipe
    assert load_recipe(path, kind)
    scaled = path.stem.endswith("_cpu")
    assert text.splitlines()[0].startswith("# Scaled") is scaled


def test_all_four_methods_are_shipped() -> None:
    names = {path.stem for path in ALL}
    for method in ("efficient_fiqa", "mspt", "ensemble", "mobilenetv2"):
        assert {method, f"{method}_cpu"} <= names


def test_published_settings() -> None:
    """The figures that the papers print."""
    teacher = load_recipe(RECIPES / "efficient_fiqa.yaml", TrainRecipe)
    assert (teacher.loss, teacher.loss_options) == ("mse_plcc", {"weight": 1.0})
    assert teacher.phases == (ResolutionPhase(epochs=30, batch=32, crop=448),)
    assert (teacher.optimiser, teacher.rate, teacher.weight_decay) == ("adamw", 1e-4, 1e-6)
    assert teacher.schedule == StepSchedule(kind="step", every_epochs=10, gamma=0.1)
    assert (teacher.select, teacher.seed) == ("srcc", 42)
    student = load_recipe(RECIPES / "efficient_fiqa_student.yaml", TrainRecipe)
    assert (student.phases[0].crop, student.select) == (352, "srcc_plcc")
    baseline = load_recipe(RECIPES / "mobilenetv2.yaml", TrainRecipe)
    assert baseline.phases == (ResolutionPhase(epochs=20, batch=64, crop=224),)
    assert (baseline.optimiser, baseline.rate, baseline.weight_decay) == ("adam", 5e-4, 1e-5)
    assert baseline.loss == "mse"
    assert load_recipe(RECIPES / "ensemble.yaml", TrainRecipe).loss == "mse_corr"


def test_stages_of_mspt_grow_and_slow_down() -> None:
    stages = load_recipe(RECIPES / "mspt.yaml", StagedRecipe).stages
    assert [stage.size for stage in stages] == [224, 384, 640]
    rates = [stage.train.rate for stage in stages]
    assert rates == sorted(rates, reverse=True)
    assert [stage.replay > 0 for stage in stages] == [False, True, True]


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("rate: -3\nphases: many\nlearning_rate: 1\n", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, TrainRecipe)
    message = str(caught.value)
    for part in ("rate", "phases", "learning_rate", "model", "schedule", str(path)):
        assert part in message


@pytest.mark.parametrize("text", ["", "steps: [", "- 1\n- 2\n"])
def test_not_a_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path, TrainRecipe)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path / "absent.yaml", TrainRecipe)


@pytest.mark.parametrize("lengths", [{}, {"steps": 3, "epochs": 1}])
def test_a_phase_has_one_length(lengths: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="either steps or epochs"):
        ResolutionPhase.model_validate({"batch": 2, "crop": 32, **lengths})


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [("mse_pplc", {}, "did you mean 'mse_plcc'"), ("mse", {"weight": 1}, "no such option")],
)
def test_losses_are_checked_with_the_recipe(
    loss: str, options: dict[str, float], message: str
) -> None:
    recipe = load_recipe(RECIPES / "mobilenetv2.yaml", TrainRecipe).model_dump()
    with pytest.raises(ValidationError, match=message):
        TrainRecipe.model_validate({**recipe, "loss": loss, "loss_options": options})
