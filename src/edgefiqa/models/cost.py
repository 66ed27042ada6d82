"""Parameters and multiply-adds, counted."""

import logging
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from edgefiqa.errors import MissingExtraError

__all__ = ["Cost", "measure_cost"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs at one input size.

    Attributes:
        parameters: Trainable parameters.
        gflops: Multiply-adds of one image in 10⁹, by fvcore's convention (1 multiply-add = 1).
        uncounted: Operators that fvcore has no rule for, with how often each occurs.
    """

    parameters: int
    gflops: float
    uncounted: dict[str, int]


def measure_cost(model: nn.Module, size: int) -> Cost:
    """Count a model's parameters and multiply-adds.

    Args:
        model: The network.
        size: Input side in pixels.

    Raises:
        MissingExtraError: If fvcore is not installed.
    """
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    was_training = model.training
    with warnings.catch_warnings():
        # fvcore's deprecations, and the tracer's notes on Python control flow
        warnings.simplefilter("ignore")
        try:
            from fvcore.nn import FlopCountAnalysis
        except ImportError as error:
            raise MissingExtraError("fvcore", "convert") from error
        counter = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, size, size))
        counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        total = counter.total()
        uncounted = dict(counter.unsupported_ops())
    model.train(was_training)
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        gflops=total / 1e9,
        uncounted=uncounted,
    )
