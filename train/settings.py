"""Reading recipes: YAML to frozen pydantic models, all faults reported at once."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from edgefiqa.errors import RecipeError

__all__ = ["RecipeModel", "load_recipe"]


class RecipeModel(BaseModel):
    """Base of recipes: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Recipe = TypeVar("Recipe", bound=RecipeModel)


def load_recipe(path: Path, kind: type[Recipe]) -> Recipe:
    """Read a recipe.

    Args:
        path: A YAML file.
        kind: The recipe's model.

    Returns:
        The recipe.

    Raises:
        RecipeError: The file cannot be read or has faults; all of them are named.
    """
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as fault:
        raise RecipeError(f"cannot read recipe ({fault})", value=path) from fault
    except ValidationError as fault:
        found = "; ".join(
            f"{'.'.join(str(part) for part in error['loc']) or 'recipe'}: {error['msg']}"
            for error in fault.errors()
        )
        keys = ", ".join(kind.model_fields)
        raise RecipeError(f"recipe with faults ({found})", value=path, allowed=keys) from fault
