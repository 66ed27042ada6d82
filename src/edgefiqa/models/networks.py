"""The networks, as torch modules.

Every network maps a float32 NCHW batch ``[n, 3, S, S]``, normalised with the ImageNet mean and
standard deviation, to float32 scores ``[n]`` (higher is better, trained on labels in about 0..1).
None of them ends in a sigmoid: a score may leave the range of its labels.
"""

from collections.abc import Sequence

import timm
import torch
import torchvision
from torch import Tensor, nn

from edgefiqa.errors import UnknownNameError

__all__ = [
    "AverageFusion",
    "PooledScorer",
    "TorchvisionScorer",
    "edgenext_student",
    "mobilenet_scorer",
    "regression_head",
    "shufflenet_scorer",
    "swin_teacher",
    "timm_scorer",
]


def regression_head(features: int, hidden: int = 128) -> nn.Sequential:
    """Build the head of Efficient-FIQA: two Linear layers with no activation between.

    Args:
        features: Width of the pooled feature vector.
        hidden: Width between the two layers (the paper's 128).
    """
    return nn.Sequential(nn.Linear(features, hidden), nn.Linear(hidden, 1))


class PooledScorer(nn.Module):
    """A timm backbone's last feature map, global average pool, and a regression head.

    The backbone's classifier head, its norm included, is not part of the module
    (arXiv 2507.15709; its public code).

    Args:
        backbone: A timm model whose ``forward_features`` returns NCHW maps.
        features: Channels of that map.
    """

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = regression_head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Score a batch; see the module's docstring for the layout."""
        # timm types its models as nn.Module, whose attributes mypy takes for Tensor | Module.
        maps: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
        scores: Tensor = self.head(maps.mean((2, 3)))
        return scores.squeeze(1)


class TorchvisionScorer(nn.Module):
    """A backbone that returns pooled features ``[n, features]``, and a regression head."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Score a batch; see the module's docstring for the layout."""
        scores: Tensor = self.head(self.backbone(images))
        return scores.squeeze(1)


class _StockClassifier(nn.Module):
    """A timm network with its stock head cut to one output."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.backbone(images)
        return scores.squeeze(1)


class AverageFusion(nn.Module):
    """The plain average of several scorers' outputs (arXiv 2509.10114)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Score a batch; see the module's docstring for the layout."""
        return torch.stack([member(images) for member in self.members]).mean(0)


def edgenext_student(variant: str = "edgenext_xx_small") -> PooledScorer:
    """Build the Efficient-FIQA student: an EdgeNeXt without its head, pool, 168→128→1."""
    backbone = timm.create_model(variant, pretrained=False, num_classes=0)
    # Replaced, not reset: reset_classifier keeps the head's LayerNorm, which the paper drops.
    backbone.head = nn.Identity()
    return PooledScorer(backbone, backbone.num_features)


def swin_teacher() -> TorchvisionScorer:
    """Build the Efficient-FIQA teacher: torchvision's Swin-B, 1024→128→1."""
    backbone = torchvision.models.swin_b(weights=None)
    features = backbone.head.in_features
    backbone.head = nn.Identity()
    return TorchvisionScorer(backbone, regression_head(features))


def mobilenet_scorer(variant: str) -> nn.Module:
    """Build a timm MobileNet with its stock head and one output (MSPT, the baseline)."""
    return _StockClassifier(timm.create_model(variant, pretrained=False, num_classes=1))


def shufflenet_scorer() -> TorchvisionScorer:
    """Build ShuffleNetV2 ×0.5 with one Linear layer, the ensemble's second member."""
    backbone = torchvision.models.shufflenet_v2_x0_5(weights=None)
    features = backbone.fc.in_features
    backbone.fc = nn.Identity()
    return TorchvisionScorer(backbone, nn.Linear(features, 1))


def timm_scorer(variant: str) -> TorchvisionScorer:
    """Build any timm backbone, pooled by its head, with the paper's regression head.

    Raises:
        UnknownNameError: If timm has no model of that name.
    """
    if not timm.is_model(variant):
        close = timm.list_models(f"*{variant.split('_', maxsplit=1)[0]}*")[:5]
        raise UnknownNameError(
            "timm has no model of this name",
            value=variant,
            allowed=f"any of timm.list_models(), for example {', '.join(close)}" if close else None,
            next_step='python -c "import timm; print(timm.list_models())" lists them',
        )
    try:  # most vision transformers accept sizes other than the default only when asked at creation
        backbone = timm.create_model(
            variant, pretrained=False, num_classes=0, dynamic_img_size=True
        )
    except TypeError:
        backbone = timm.create_model(variant, pretrained=False, num_classes=0)
    features = getattr(backbone, "head_hidden_size", backbone.num_features)
    return TorchvisionScorer(backbone, regression_head(features))
