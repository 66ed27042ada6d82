"""Recipes and policies: YAML files as frozen pydantic models, all faults reported at once."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgefiqa.errors import RecipeError

__all__ = ["RecipeModel", "load_recipe", "shipped_names"]

_SUFFIXES = (".yaml", ".yml")


class RecipeModel(BaseModel):
    """What every recipe is: keyword-only, frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Recipe = TypeVar("Recipe", bound=BaseModel)


def shipped_names(folder: Path) -> list[str]:
    """Return the names of the recipes in a folder of the package, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_recipe(
    name: str | Path, kind: type[Recipe], *, shipped: Path | None = None, what: str = "recipe"
) -> Recipe:
    """Read a recipe.

    Args:
        name: A YAML file, or the name of one in `shipped`.
        kind: The recipe's model.
        shipped: Folder of the recipes that can be given by name.
        what: What it is called in errors: a recipe, a policy.

    Returns:
        The recipe.

    Raises:
        RecipeError: There is no such recipe, or it has faults; all of them are named.
    """
    path = Path(name)
    if shipped is not None and path.suffix not in _SUFFIXES and str(name) in shipped_names(shipped):
        path = shipped / f"{name}.yaml"
    allowed = "a YAML file"
    if shipped is not None:
        allowed += f", or one of {', '.join(shipped_names(shipped))}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read the {what} ({error})"
        raise RecipeError(message, value=name, allowed=allowed) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"the {what} is no YAML ({error})", value=path) from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or what}: {fault['msg']}"
            for fault in error.errors()
        )
        keys = ", ".join(kind.model_fields)
        message = f"the {what} has faults ({faults})"
        raise RecipeError(message, value=path, allowed=keys) from error
