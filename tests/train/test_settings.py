from pathlib import Path

import pytest

from edgefiqa.errors import RecipeError
from edgefiqa.train import load_recipe
from edgefiqa.train.run import TeacherRecipe


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("steps: -3\nbatch: many\nlearning_rate: 1\n", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, TeacherRecipe)
    message = str(caught.value)
    for part in ("steps", "batch", "learning_rate", "crop", "threads", str(path)):
        assert part in message


@pytest.mark.parametrize("text", ["", "steps: [", "- 1\n- 2\n"])
def test_not_a_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path, TeacherRecipe)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read recipe"):
        load_recipe(tmp_path / "absent.yaml", TeacherRecipe)
