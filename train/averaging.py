"""An exponential moving average of a model's weights."""

import copy

import torch
from torch import nn

__all__ = ["AveragedWeights"]


class AveragedWeights:
    """An exponential moving average of a model's weights.

    Args:
        model: The model that is trained; its copy starts equal.
        decay: Share of the old average kept each step; less in the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after one step.

        Args:
            model: The trained model.
            step: 0-based; a young average forgets faster.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        new = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(new[name], 1 - decay)
            else:
                average.copy_(new[name])
