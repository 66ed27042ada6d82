"""Recipes of quantisation: YAML to one frozen pydantic model."""

from pathlib import Path

from pydantic import Field

from edgefiqa import recipe as recipes
from edgefiqa.quantize.plan import Mode
from edgefiqa.quantize.recipe_files import RECIPES, recipe_names

__all__ = ["QuantizeRecipe", "load_recipe", "recipe_names"]


class QuantizeRecipe(recipes.RecipeModel):
    """What becomes int8, and what must hold.

    Attributes:
        name: The recipe's name: the files' precision, in their names and metadata.
        modes: Modes that a layer may have, besides float. Of those that a format has for a layer,
            the format's order of preference decides.
        policy: Name or file of the policy that a file must keep, see ``edgefiqa gate``; none
            reports what comes out.
        min_int8_share: Smallest share of multiply-adds in int8 that is worth a file; blocks are
            returned to float only as far as this allows.
        max_size_ratio: Largest size of a file, as a share of its fp32 file's; none allows any.
        calibration_images: Images that ranges are taken from, at most.
        evaluation_images: Images that drift is measured on, at most, evenly spaced.
        sensitivity_images: Calibration images that blocks are ranked on.
        correct_bias: Whether biases make up for the rounding of weights.
        smooth: Whether channels that share an activation scale are evened out.
        golden_tolerance: Largest |score − torch| on the golden images, on any device.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    modes: tuple[Mode, ...] = Field(min_length=1)
    policy: str | None = None
    min_int8_share: float = Field(default=0.0, ge=0, le=1)
    max_size_ratio: float | None = Field(default=None, gt=0)
    calibration_images: int = Field(default=128, ge=2)
    evaluation_images: int = Field(default=1200, ge=2)
    sensitivity_images: int = Field(default=48, ge=2)
    correct_bias: bool = True
    smooth: bool = True
    golden_tolerance: float = Field(default=0.05, gt=0)

    @property
    def is_weight_only(self) -> bool:
        """Whether arithmetic stays in float: no activation is ever 8-bit."""
        return set(self.modes) <= {Mode.WEIGHT, Mode.FLOAT}


def load_recipe(name: str | Path) -> QuantizeRecipe:
    """Read a recipe; all its faults are reported at once.

    Args:
        name: A YAML file, or the name of a shipped recipe.

    Raises:
        RecipeError: There is no such recipe, or it has faults.
    """
    return recipes.load_recipe(name, QuantizeRecipe, shipped=RECIPES)
