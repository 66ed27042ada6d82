"""Reading recipes: by name or by file, and all faults at once."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from edgefiqa.errors import RecipeError
from edgefiqa.recipe import RecipeModel, load_recipe, shipped_names


class Optimiser(RecipeModel):
    name: str
    rate: float = Field(gt=0)


class Cooking(RecipeModel):
    steps: int = Field(ge=1)
    optimiser: Optimiser | None = None
    sizes: tuple[int, ...] = (288,)


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "long.yaml").write_text("steps: 100\n")
    (folder / "brief.yaml").write_text("steps: 1\n")
    (folder / "notes.txt").write_text("no recipe")
    return folder


def test_shipped_names_are_sorted(shipped: Path, tmp_path: Path) -> None:
    assert shipped_names(shipped) == ["brief", "long"]
    assert shipped_names(tmp_path / "nowhere") == []


def test_by_name_and_by_file(shipped: Path, tmp_path: Path) -> None:
    assert load_recipe("long", Cooking, shipped=shipped) == Cooking(steps=100)
    mine = tmp_path / "mine.yml"
    mine.write_text("steps: 7\noptimiser: {name: adam, rate: 0.1}\nsizes: [96, 192]\n")
    for name in (mine, str(mine)):
        recipe = load_recipe(name, Cooking, shipped=shipped)
        assert recipe.optimiser == Optimiser(name="adam", rate=0.1)
        assert recipe.sizes == (96, 192)


def test_a_file_named_like_a_shipped_recipe_is_the_file(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("long.yaml").write_text("steps: 3\n")
    assert load_recipe("long.yaml", Cooking, shipped=shipped).steps == 3
    assert load_recipe("long", Cooking, shipped=shipped).steps == 100


def test_an_unknown_name_lists_the_shipped_ones(shipped: Path) -> None:
    message = r"cannot read the policy .*: longer\. Allowed: a YAML file, or one of brief, long"
    with pytest.raises(RecipeError, match=message):
        load_recipe("longer", Cooking, shipped=shipped, what="policy")
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*Allowed: a YAML file$"):
        load_recipe("brief", Cooking)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("steps: 0\noptimiser: {rate: -1}\ncolour: red\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, Cooking)
    text = str(caught.value)
    for fault in ("steps: ", "optimiser.name: ", "optimiser.rate: ", "colour: ", str(path)):
        assert fault in text
    assert "Allowed: steps, optimiser, sizes" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"steps: [1", "the recipe is no YAML"),
        (b"", "the recipe has faults .recipe: "),
        (b"- steps", "the recipe has faults .recipe: "),
        (b"steps: \xff", "cannot read the recipe"),
        (b"!!python/object/apply:os.getcwd []", "the recipe is no YAML"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, Cooking)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        load_recipe(tmp_path, Cooking)


def test_recipes_are_frozen() -> None:
    recipe = Cooking(steps=1)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.steps = 2
