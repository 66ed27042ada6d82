"""Distil: a corpus and a teacher in, a student (weights and card) out. See README.md.

The names below are all that other stages may use; see ``edgefiqa.lazy`` for how they are imported.
"""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.distill.ablation import AblationRecipe
    from edgefiqa.distill.ablation import run as run_ablation
    from edgefiqa.distill.ablation_table import render as ablation_markdown
    from edgefiqa.distill.run import DistillResult
    from edgefiqa.distill.run import run as distil
    from edgefiqa.distill.settings import DistillRecipe

__all__ = [
    "AblationRecipe",
    "DistillRecipe",
    "DistillResult",
    "ablation_markdown",
    "distil",
    "run_ablation",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
