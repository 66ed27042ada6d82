"""Losses by name; every one is finite, with finite gradients, for every finite batch.

========== ============================================================ =========================
name       what                                                         from
========== ============================================================ =========================
mse_plcc   MSE + weight · (1 − r) / 2                                   Efficient-FIQA, eq. 5–7
mse_corr   MSE + weight · (1 − r), no r where it is undefined           arXiv 2509.10114
l1_rank    L1 + weight · mean over pairs of a margin ranking loss       our addition
huber      squared below ``delta``, linear above                        our addition
mse        mean squared error                                           the challenge's baseline
========== ============================================================ =========================
"""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from edgefiqa.errors import UsageError
from edgefiqa.registry import Registry

__all__ = [
    "LOSSES",
    "Loss",
    "build_loss",
    "huber",
    "l1_rank",
    "mse",
    "mse_corr",
    "pearson",
    "plcc_loss",
    "score_loss",
]

# Below this product of norms a batch is constant, its correlation undefined and its gradient huge.
_SMALLEST_NORM = 1e-6


class Loss(Protocol):
    """From scores ``[N]`` and targets ``[N]`` to a scalar."""

    def __call__(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of one batch."""
        ...


def _correlation(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return Pearson's r, 0 where undefined, and whether it is undefined."""
    x = predicted.float() - predicted.float().mean()
    y = target.float() - target.float().mean()
    squared = x.square().sum() * y.square().sum()
    constant = squared < _SMALLEST_NORM**2
    # Both branches of `where` get gradients: the unused one must be finite too.
    r = (x * y).sum() / torch.where(constant, torch.ones_like(squared), squared).sqrt()
    return torch.where(constant, torch.zeros_like(r), r), constant


def pearson(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute Pearson's correlation, 0 where one side is constant.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.

    Returns:
        Scalar in -1..1. For a constant side (a batch of one is constant) it is 0 with gradient 0.
    """
    return _correlation(predicted, target)[0]


def plcc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute the correlation loss ``(1 - r) / 2`` over the batch.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.

    Returns:
        Scalar in 0..1, 0.5 where the correlation is undefined.
    """
    return (1 - pearson(predicted, target)) / 2


def mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute the mean squared error in float32."""
    return (predicted.float() - target.float()).square().mean()


def score_loss(predicted: Tensor, target: Tensor, *, weight: float = 1.0) -> Tensor:
    """Compute ``MSE + weight * (1 - r) / 2`` (registered as ``mse_plcc``).

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.
        weight: The paper's λ.

    Returns:
        Scalar, finite for every finite batch.
    """
    return mse(predicted, target) + weight * plcc_loss(predicted, target)


def mse_corr(predicted: Tensor, target: Tensor, *, weight: float = 1.0) -> Tensor:
    """Compute ``MSE + weight * (1 - r)``; plain MSE where r is undefined (MSECorrLoss).

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.
        weight: The paper's λ.

    Returns:
        Scalar, finite for every finite batch.
    """
    r, constant = _correlation(predicted, target)
    return mse(predicted, target) + weight * torch.where(constant, torch.zeros_like(r), 1 - r)


def l1_rank(
    predicted: Tensor, target: Tensor, *, weight: float = 1.0, margin: float = 0.05
) -> Tensor:
    """Compute L1 plus a margin ranking loss over all pairs with different targets.

    A pair costs ``max(0, margin - s * (p_i - p_j))`` with s the sign of its targets' difference.
    The margin of a pair is at most its targets' difference, so that perfect scores cost nothing.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.
        weight: Weight of the ranking part.
        margin: Wanted distance of the scores of a pair.

    Returns:
        Scalar; the ranking part is 0 for a batch without a pair.
    """
    p, t = predicted.float(), target.float()
    apart = t[:, None] - t[None, :]
    wanted = apart.abs().clamp(max=margin)
    costs = functional.relu(wanted - apart.sign() * (p[:, None] - p[None, :]))
    pairs = apart != 0
    rank = (costs * pairs).sum() / pairs.sum().clamp(min=1)
    return (p - t).abs().mean() + weight * rank


def huber(predicted: Tensor, target: Tensor, *, delta: float = 0.1) -> Tensor:
    """Compute Huber's loss, in float32.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.
        delta: Error at which it turns from squared to linear.

    Returns:
        Scalar.
    """
    return functional.huber_loss(predicted.float(), target.float(), delta=delta)


LOSSES: Registry[Loss] = Registry("loss")
LOSSES.add("mse_plcc", score_loss)
LOSSES.add("mse_corr", mse_corr)
LOSSES.add("l1_rank", l1_rank)
LOSSES.add("huber", huber)
LOSSES.add("mse", mse)


def build_loss(name: str, options: Mapping[str, float] | None = None) -> Loss:
    """Return a loss by name with its options set.

    Args:
        name: A name of `LOSSES`.
        options: Values of its keyword parameters.

    Returns:
        A function of scores and targets.

    Raises:
        UnknownNameError: There is no such loss.
        UsageError: The loss has no such option.
    """
    loss, options = LOSSES.get(name), dict(options or {})
    known = [p for p in inspect.signature(loss).parameters if p not in {"predicted", "target"}]
    strangers = sorted(options.keys() - set(known))
    if strangers:
        raise UsageError(
            f"loss {name!r} has no such option",
            value=", ".join(strangers),
            allowed=", ".join(known) or "none",
        )
    return cast(Loss, partial(cast(Any, loss), **options))
