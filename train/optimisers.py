"""Parameter groups, optimisers, and learning rates as pure functions of the position."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from edgefiqa.train.settings import CosineSchedule, Optimiser, Schedule, TrainRecipe

__all__ = ["build_optimiser", "rate_factor", "set_rates"]

_OPTIMISERS: dict[Optimiser, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    Optimiser.ADAMW: torch.optim.AdamW,
    Optimiser.ADAM: torch.optim.Adam,
}
_HEADS = frozenset({"head", "classifier"})


def _is_head(name: str) -> bool:
    """Tell a scorer's new last layers (``head.…``, ``…classifier.…``) from its backbone."""
    parts = name.split(".")
    own = parts[2:] if parts[0] == "members" else parts
    return own[0] == "head" or not _HEADS.isdisjoint(own[:2])


def build_optimiser(
    scorer: nn.Module, extra: nn.Module | None, recipe: TrainRecipe
) -> torch.optim.Optimizer:
    """Build the optimiser; each group's peak rate is kept under ``peak``.

    Args:
        scorer: The model; its head may have its own rate.
        extra: Parameters trained along (projections), at the ordinary rate.
        recipe: The settings.

    Returns:
        The optimiser.
    """
    named = [(p, _is_head(name)) for name, p in scorer.named_parameters() if p.requires_grad]
    if extra is not None:
        named += [(p, False) for p in extra.parameters() if p.requires_grad]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, head in named:
        peak = recipe.head_rate if head and recipe.head_rate else recipe.rate
        decays = parameter.ndim > 1 or recipe.decay_one_dimensional
        decay = recipe.weight_decay if decays else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    return _OPTIMISERS[recipe.optimiser](
        [
            {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
            for (peak, decay), parameters in groups.items()
        ]
    )


def rate_factor(schedule: Schedule, *, step: int, steps: int, epoch: float) -> float:
    """Return the learning rate's factor at a step.

    Args:
        schedule: Which schedule.
        step: 0-based.
        steps: Steps in all.
        epoch: Passes over the first set done before this step.

    Returns:
        Factor in 0..1.
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if isinstance(schedule, CosineSchedule):
        done = min(1.0, (step - schedule.warmup) / max(1, steps - schedule.warmup))
        return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * done)) / 2
    return float(schedule.gamma ** int(epoch / schedule.every_epochs))


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its peak times a factor."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor
