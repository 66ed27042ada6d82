"""The recipes that ship with the package; light, so that the command line can list them."""

from pathlib import Path

from edgefiqa.recipe import shipped_names

__all__ = ["RECIPES", "recipe_names"]

RECIPES = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return shipped_names(RECIPES)
