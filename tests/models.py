"""Networks with weights that exercise every layer, for tests."""

from pathlib import Path

import torch
from torch import nn

from edgefiqa.models import ModelCard, build, save_model

__all__ = ["lively", "save_lively"]


def lively(name: str, seed: int = 0) -> nn.Module:
    """Build a model whose norms, layer scales and statistics differ from their defaults.

    Freshly initialised networks hide faults: a layer scale of 1e-6 switches whole blocks off, and
    batch norms with mean 0 and variance 1 do nothing.
    """
    torch.manual_seed(seed)
    model = build(name).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "gamma" in key:
                parameter.uniform_(0.2, 0.8)
            elif parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def save_lively(name: str, size: int, out: Path) -> ModelCard:
    """Save such a model as a model directory."""
    card = ModelCard(
        model=name,
        name="lively",
        description="random weights",
        size=size,
        training_data="none",
        licence="Apache-2.0",
    )
    return save_model(lively(name), out, card)
