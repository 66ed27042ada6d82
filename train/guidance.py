"""Where an online teacher hooks into the training loop."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

__all__ = ["Guidance"]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Further losses, computed from the model's inner maps on the very crops it is trained on.

    Attributes:
        module: ``module(scorer, images)`` runs the scorer itself and returns its scores ``[N]`` and
            named scalar losses, each the mean over these images. Its parameters (projections) are
            trained, its state is kept in checkpoints: frozen teachers do not belong to it.
        weight: From the share of the run that is done, 0..1, to the losses' common weight; the
            module is not run where it is 0.
        identity: What it depends on (hashes), for checkpoints.
        fades: Whether the weight may be 0 at some time.
    """

    module: nn.Module
    weight: Callable[[float], float]
    identity: str
    fades: bool = True
