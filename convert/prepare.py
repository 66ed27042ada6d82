"""Export-time rewriting: the scorer contract and the exact folds, as one torch module.

What leaves here takes a uint8 NHWC image and returns one float32 score, whatever the format it is
exported to. Every rewrite is exact in real arithmetic; what is left is float32 rounding.
"""

import copy
from dataclasses import dataclass

import torch
from timm.models.edgenext import EdgeNeXt
from torch import Tensor, nn

from edgefiqa.convert.edgenext import rewrite_edgenext
from edgefiqa.models.networks import PooledScorer
from edgefiqa.models.normalisation import IMAGENET_MEAN, IMAGENET_STD, normalise

__all__ = ["ExportScorer", "Normalise", "fold_linear_pair", "prepare_scorer"]


class Normalise(nn.Module):
    """``(x − 255·mean) · 1/(255·std)`` on pixels 0..255, for stems that pad their input."""

    mean: Tensor
    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("factor", 1 / (255 * torch.tensor(IMAGENET_STD)).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise: float ``[n, 3, S, S]`` → the same shape."""
        return (pixels - self.mean) * self.factor


class ExportScorer(nn.Module):
    """A network behind the scorer contract.

    Attributes:
        normalise: What is left of the normalisation: nothing where the stem took it.
        network: The rewritten network.
        folded: The rewrites that were applied, for the manifest.
    """

    def __init__(self, network: nn.Module, normalise: nn.Module, folded: list[str]) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network
        self.folded = folded

    def forward(self, image: Tensor) -> Tensor:
        """Score one image: uint8 (or float 0..255) ``[1, S, S, 3]`` → float32 ``[1]``."""
        return self.forward_nchw(image.float().permute(0, 3, 1, 2))

    def forward_nchw(self, pixels: Tensor) -> Tensor:
        """Score float pixels 0..255, ``[1, 3, S, S]``: the part behind an image input."""
        scores: Tensor = self.network(self.normalise(pixels))
        return scores


@dataclass
class _StemFinder:
    """Finds the convolution that alone reads the network's input."""

    image: Tensor
    stem: nn.Conv2d | None = None

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d) and args and args[0] is self.image:
            self.stem = module


@torch.no_grad()
def _fold_normalisation(network: nn.Module, size: int) -> bool:
    """Fold mean and standard deviation into an unpadded first convolution, if there is one.

    With ``n(x) = (x/255 − m)/s`` per channel, ``W·n(x) + b = (W/(255 s))·x + b − Σ W·m/s``. Where
    the convolution pads, its zeros would stand for black instead of the mean, so it is left alone.
    """
    image = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    normalised = normalise(image)
    finder = _StemFinder(normalised)
    hooks = [m.register_forward_pre_hook(finder) for m in network.modules()]
    wanted = network(normalised)
    for hook in hooks:
        hook.remove()
    stem = finder.stem
    if stem is None or stem.padding not in ((0, 0), "valid") or stem.groups != 1:
        return False
    before = copy.deepcopy(stem)
    weight = stem.weight.double()
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=torch.float64).view(1, 3, 1, 1)
    shift = (weight * mean / std).sum((1, 2, 3))
    bias = torch.zeros_like(shift) if stem.bias is None else stem.bias.double()
    stem.bias = nn.Parameter((bias - shift).float())
    stem.weight = nn.Parameter((weight / (255 * std)).float())
    got = network(image.permute(0, 3, 1, 2).float())
    if torch.allclose(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max() + 1)):
        return True
    stem.weight, stem.bias = before.weight, before.bias  # the input is used elsewhere too
    return False


@torch.no_grad()
def fold_linear_pair(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """Multiply two Linear layers with no activation between into one."""
    folded = nn.Linear(first.in_features, second.out_features)
    weight, bias = second.weight.double(), second.bias.double()
    folded.weight = nn.Parameter((weight @ first.weight.double()).float())
    folded.bias = nn.Parameter((weight @ first.bias.double() + bias).float())
    return folded


def _fold_heads(network: nn.Module) -> bool:
    """Fold every two-layer regression head found in a network."""
    found = False
    for module in network.modules():
        head = getattr(module, "head", None)
        if (
            isinstance(head, nn.Sequential)
            and len(head) == 2
            and isinstance(head[0], nn.Linear)
            and isinstance(head[1], nn.Linear)
        ):
            module.head = fold_linear_pair(head[0], head[1])
            found = True
    return found


def prepare_scorer(model: nn.Module, size: int) -> ExportScorer:
    """Build the module that is exported.

    Args:
        model: A network of ``edgefiqa.models``; it is not changed.
        size: Input side in pixels.

    Returns:
        The same scorer under the contract: uint8 ``[1, S, S, 3]`` → float32 ``[1]``.
    """
    network = copy.deepcopy(model).eval()
    folded = []
    if _fold_heads(network):
        folded.append("two-layer head → one Linear")
    if isinstance(network, PooledScorer) and isinstance(network.backbone, EdgeNeXt):
        folded += rewrite_edgenext(network.backbone, size)
    normaliser: nn.Module = Normalise()
    if _fold_normalisation(network, size):
        folded.append("normalisation → first convolution")
        normaliser = nn.Identity()
    return ExportScorer(network, normaliser, folded).eval()
