"""The small teacher: EfficientNet-Lite0 with one linear layer over its pooled maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefiqa.train.pretrained import build_lite0_features

__all__ = ["MAP_CHANNELS", "MAP_STRIDES", "Lite0Scorer"]

MAP_STRIDES = (8, 16, 32)
MAP_CHANNELS = (40, 112, 320)


class Lite0Scorer(nn.Module):
    """A scorer with three scales: fine damage shows in the early maps, content in the late one.

    Args:
        pretrained: Start from the ImageNet weights.
    """

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self.backbone = build_lite0_features(pretrained=pretrained)
        self.head = nn.Linear(sum(MAP_CHANNELS), 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, 0.5)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Compute the maps at strides 8, 16 and 32.

        Args:
            images: float32 ``[N,3,H,W]``, normalised.

        Returns:
            Maps of 40, 112 and 320 channels.
        """
        found: list[Tensor] = self.backbone(images)
        return found

    def score(self, maps: list[Tensor]) -> Tensor:
        """Score from maps.

        Args:
            maps: What `maps` returned.

        Returns:
            Scores ``[N]``.
        """
        pooled = torch.cat([level.float().mean((2, 3)) for level in maps], dim=1)
        scores: Tensor = self.head(pooled)
        return scores.squeeze(1)

    def score_map(self, maps: Sequence[Tensor]) -> Tensor:
        """Split scores into what each place adds to them.

        Args:
            maps: What `maps` returned, of images whose sides are multiples of 32.

        Returns:
            float32 ``[N,h,w]`` at stride 32; the mean over places is the score.
        """
        height, width = maps[-1].shape[2:]
        parts = torch.split(self.head.weight[0], list(MAP_CHANNELS))
        added = [
            functional.adaptive_avg_pool2d(
                torch.einsum("nchw,c->nhw", level.float(), weights).unsqueeze(1), (height, width)
            )
            for level, weights in zip(maps, parts, strict=True)
        ]
        return torch.stack(added).sum(0).squeeze(1) + self.head.bias

    def forward(self, images: Tensor) -> Tensor:
        """Score images.

        Args:
            images: float32 ``[N,3,H,W]``, normalised.

        Returns:
            Scores ``[N]``.
        """
        return self.score(self.maps(images))
