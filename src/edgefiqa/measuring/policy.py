"""Policies: what a run must show, as rules in YAML.

A rule names a metric, the files it holds for, a slice or a stage, and a bound.
"""

import fnmatch
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from edgefiqa import recipe as recipes
from edgefiqa.measuring.figures import FIGURES
from edgefiqa.measuring.records import LatencyPhase
from edgefiqa.measuring.slices import ALL

__all__ = ["LATENCY_METRICS", "Judged", "Policy", "Rule", "load_policy", "policy_names"]

_POLICIES = Path(__file__).parent / "policies"
LATENCY_METRICS = tuple(f"latency_{phase}_p{q}_ms" for phase in LatencyPhase for q in (50, 90, 99))
_OTHER = ("failed_images", "size_bytes", *LATENCY_METRICS)
_OF_STAGES = ("mean_error", "p99_error", "bias", "srcc_reference", "delta_srcc")


class Judged(StrEnum):
    """Which number of a figure a rule looks at."""

    VALUE = "value"
    INTERVAL = "interval"  # the end of the interval that is nearer to breaking the bound


class Rule(recipes.RecipeModel):
    """One requirement.

    Attributes:
        metric: A name of ``FIGURES``, ``failed_images``, ``size_bytes`` or
            ``latency_<phase>_p<50|90|99>_ms``.
        file: Pattern of file names (``*.tflite``).
        precision: Patterns of the manifest's precision; any of them fits.
        runtime: Pattern of runtime names.
        slice: Name of the slice.
        stage: A stage of the waterfall that ends with the file, such as "decode/resize"; then the
            metric is that of the stage's change alone. Without: of the file against the reference.
        max: Largest allowed value.
        min: Smallest allowed value.
        absolute: Whether the magnitude is meant.
        judged: Which number is compared.
    """

    metric: str
    file: str = "*"
    precision: tuple[str, ...] = ("*",)
    runtime: str = "*"
    slice: str = ALL
    stage: str | None = None
    max: FiniteFloat | None = None
    min: FiniteFloat | None = None
    absolute: bool = False
    judged: Judged = Judged.VALUE

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        if self.metric not in FIGURES and self.metric not in _OTHER:
            msg = f"unknown metric {self.metric!r}; allowed: {', '.join((*FIGURES, *_OTHER))}"
            raise ValueError(msg)
        if self.stage is not None and (self.metric not in _OF_STAGES or self.slice != ALL):
            msg = f"no metric of a stage: {self.metric!r}; allowed: {', '.join(_OF_STAGES)}"
            raise ValueError(f"{msg}, on {ALL}")
        if self.max is None and self.min is None:
            msg = "a rule needs max, min or both"
            raise ValueError(msg)
        return self

    def fits(self, names: Sequence[tuple[str, str]], runtime: str) -> bool:
        """Tell whether one of the files, with its precision, is meant."""
        return fnmatch.fnmatchcase(runtime, self.runtime) and any(
            fnmatch.fnmatchcase(file, self.file)
            and any(fnmatch.fnmatchcase(precision, pattern) for pattern in self.precision)
            for file, precision in names
        )

    @property
    def text(self) -> str:
        """The requirement in one clause."""
        name = f"|{self.metric}|" if self.absolute else self.metric
        name += f" on {self.slice}" if self.slice != ALL else ""
        name += f" of {self.stage}" if self.stage else ""
        low = f"{self.min:g} ≤ " if self.min is not None else ""
        high = f" ≤ {self.max:g}" if self.max is not None else ""
        return f"{low}{name}{high}"


class Policy(recipes.RecipeModel):
    """Rules that must all hold.

    Attributes:
        name: Name to display.
        rules: At least one.
    """

    schema_version: Literal[1] = 1
    name: str
    rules: tuple[Rule, ...] = Field(min_length=1)


def policy_names() -> list[str]:
    """Return the policies that ship with the package."""
    return recipes.shipped_names(_POLICIES)


def load_policy(name: str | Path) -> Policy:
    """Read a policy; all its faults are reported at once.

    Args:
        name: A YAML file, or the name of a shipped policy.

    Raises:
        RecipeError: There is no such policy, or it has faults.
    """
    return recipes.load_recipe(name, Policy, shipped=_POLICIES, what="policy")
