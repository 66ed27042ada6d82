"""From pixels to what the networks were trained on; the only definition in torch."""

import torch
from torch import Tensor

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "normalise"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 NHWC images into what the networks were trained on.

    Args:
        images: uint8 ``[n, S, S, 3]``, RGB, 0..255.

    Returns:
        float32 ``[n, 3, S, S]``, ImageNet mean and standard deviation applied.
    """
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
