"""Parameter groups, optimisers, and learning rates as pure functions of the position."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.optim import Muon, muon
from torch import nn

from edgefiqa.train.settings import CosineSchedule, Optimiser, Schedule, TrainRecipe

__all__ = ["build_optimiser", "rate_factor", "set_rates"]

_newton_schulz = muon.zeropower_via_newtonschulz


def _muon(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Orthogonal steps for the backbone's matrices (Jordan 2024), as long as AdamW's."""
    if not torch.cuda.is_available():
        # timm has no setting for it: in bfloat16 its iteration takes four times as long on CPUs
        # that have no instructions for that, a sixth of the student's training step.
        muon.zeropower_via_newtonschulz = partial(_newton_schulz, dtype=torch.float32)
    optimiser: torch.optim.Optimizer = Muon(groups, nesterov=True)
    return optimiser


# Fused: on CPUs one pass over each parameter instead of a dozen, a quarter of the time.
_OPTIMISERS: dict[Optimiser, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    Optimiser.ADAMW: partial(torch.optim.AdamW, fused=True),
    Optimiser.ADAM: partial(torch.optim.Adam, fused=True),
    Optimiser.MUON: _muon,
}
_HEADS = frozenset({"head", "classifier"})


def _is_head(name: str) -> bool:
    """Tell a scorer's new last layers (``head.…``, ``…classifier.…``) from its backbone."""
    parts = name.split(".")
    path = parts[2:] if parts[0] == "members" else parts
    return path[0] == "head" or not _HEADS.isdisjoint(path[:2])


def build_optimiser(
    scorer: nn.Module, extra: nn.Module | None, recipe: TrainRecipe
) -> torch.optim.Optimizer:
    """Build the optimiser; each group's peak rate is kept under ``peak``.

    Args:
        scorer: The model; its head may have another learning rate.
        extra: Parameters trained along (projections), at the ordinary rate.
        recipe: The settings.

    Returns:
        The optimiser.
    """
    named = [(p, _is_head(name), False) for name, p in scorer.named_parameters()]
    if extra is not None:
        named += [(p, False, True) for p in extra.parameters()]
    options: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    is_muon = recipe.optimiser is Optimiser.MUON
    for parameter, head, is_extra in named:
        if not parameter.requires_grad:
            continue
        peak = recipe.head_rate if head and recipe.head_rate else recipe.rate
        decays = parameter.ndim > 1 or recipe.decay_one_dimensional
        decay = recipe.weight_decay if decays else 0.0
        # What is new has far to go: Muon's steps, all of one length, would take it there slowly.
        by_adamw = is_muon and (head or is_extra)
        options.setdefault((peak, decay, by_adamw), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr": peak, "peak": peak, "weight_decay": decay}
        | ({"use_fallback": by_adamw} if is_muon else {})
        for (peak, decay, by_adamw), parameters in options.items()
    ]
    return _OPTIMISERS[recipe.optimiser](groups)


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
