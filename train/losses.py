"""The losses of Efficient-FIQA: mean squared error and correlation (its equations 5 to 7)."""

import torch
from torch import Tensor

__all__ = ["pearson", "plcc_loss", "score_loss"]

# Below this product of norms a batch is constant, its correlation undefined and its gradient huge.
_SMALLEST_NORM = 1e-6


def pearson(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute Pearson's correlation, 0 where one side is constant.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.

    Returns:
        Scalar in -1..1. For a constant side (a batch of one is constant) it is 0 with gradient 0.
    """
    x = predicted.float() - predicted.float().mean()
    y = target.float() - target.float().mean()
    squared = x.square().sum() * y.square().sum()
    constant = squared < _SMALLEST_NORM**2
    # Both branches of `where` get gradients: the unused one must be finite too.
    r = (x * y).sum() / torch.where(constant, torch.ones_like(squared), squared).sqrt()
    return torch.where(constant, torch.zeros_like(r), r)


def plcc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute the correlation loss ``(1 - r) / 2`` over the batch.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.

    Returns:
        Scalar in 0..1, 0.5 where the correlation is undefined.
    """
    return (1 - pearson(predicted, target)) / 2


def score_loss(predicted: Tensor, target: Tensor, *, plcc_weight: float = 1.0) -> Tensor:
    """Compute ``MSE + plcc_weight * (1 - r) / 2``.

    Args:
        predicted: Scores ``[N]``, float.
        target: Scores ``[N]``, float.
        plcc_weight: The paper's λ.

    Returns:
        Scalar, finite for every finite batch.
    """
    squared = (predicted.float() - target.float()).square().mean()
    return squared + plcc_weight * plcc_loss(predicted, target)
