"""From the prepared torch module to its Keras twin."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timm.models import EfficientNet, MobileNetV3
from timm.models.edgenext import EdgeNeXt
from torch import nn
from torchvision.models.shufflenetv2 import ShuffleNetV2

from edgefiqa.convert.keras_twin.edgenext import add_edgenext
from edgefiqa.convert.keras_twin.graph import Graph, KerasTensor, Watched, weights_of
from edgefiqa.convert.keras_twin.mobilenet import add_mobilenet
from edgefiqa.convert.keras_twin.shufflenet import add_shufflenet
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.errors import UsageError
from edgefiqa.models.networks import AverageFusion, PooledScorer

__all__ = ["SUPPORTED", "TwinModel", "build_twin"]

SUPPORTED = "efficient-fiqa-student (EdgeNeXt), mspt (MobileNetV3), mobilenetv2, ensemble"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TwinModel:
    """A Keras model that carries a torch model's weights.

    Attributes:
        model: The ``keras.Model``: uint8 ``image`` ``[1, S, S, 3]`` → float32 ``[1]``.
        size: Input side in pixels.
        watched: Its tensors that equal a torch module's output, by the module's name in the
            ``ExportScorer``, in the order of execution.
    """

    model: Any
    size: int
    watched: Mapping[str, Watched]


def build_twin(export_model: ExportScorer, size: int) -> TwinModel:
    """Build the Keras twin of a prepared scorer.

    Args:
        export_model: What ``edgefiqa.convert.prepare.prepare`` returned for the same size.
        size: Input side in pixels.

    Raises:
        MissingExtraError: If TensorFlow is not installed.
        UsageError: If the architecture has no twin.
    """
    _require_supported(export_model.network)
    graph = Graph()
    image = graph.keras.Input(batch_shape=(1, size, size, 3), dtype="uint8", name="image")
    pixels = graph.keras.ops.cast(image, "float32")
    pixels, scale = _subtract_mean(pixels, export_model.normalise)
    score = _add_network(graph, pixels, export_model.network, "network", scale)
    score = graph.keras.ops.reshape(score, (1,))
    _log.info("built the Keras twin with %d watched tensors", len(graph.watched))
    model = graph.keras.Model(image, score, name="twin")
    return TwinModel(model=model, size=size, watched=graph.watched)


def _members(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the networks that are averaged, with the suffix of their names."""
    if isinstance(network, AverageFusion):
        return [(f".members.{index}", member) for index, member in enumerate(network.members)]
    return [("", network)]


def _has_twin(member: nn.Module) -> bool:
    """Whether the member is one of the four as built by ``edgefiqa.models``.

    The same backbones exist under other heads (``timm:edgenext_small``); those are not prepared
    the same way.
    """
    match backbone := getattr(member, "backbone", None):
        case EdgeNeXt():
            return isinstance(member, PooledScorer)
        case MobileNetV3() | EfficientNet():
            return not hasattr(member, "head") and isinstance(backbone.classifier, nn.Linear)
        case ShuffleNetV2():
            return isinstance(getattr(member, "head", None), nn.Linear)
        case _:
            return False


def _require_supported(network: nn.Module) -> None:
    for _, member in _members(network):
        if not _has_twin(member):
            backbone = getattr(member, "backbone", member)
            raise UsageError(
                "this architecture has no Keras twin",
                value=f"{type(member).__name__} of {type(backbone).__name__}",
                allowed=SUPPORTED,
                next_step="--to tflite converts every model",
            )


def _subtract_mean(
    pixels: KerasTensor, normalise: nn.Module
) -> tuple[KerasTensor, NDArray[np.float64]]:
    """Do what is left of the normalisation, but for a factor that the stem will take.

    Unlike the mean, the factor may pass a padded convolution: it leaves the padding's zeros alone.
    """
    if isinstance(normalise, nn.Identity):
        return pixels, np.ones(1)
    mean = normalise.get_buffer("mean").numpy().reshape(3)
    factor = normalise.get_buffer("factor").double().numpy().reshape(3)
    # One whole row, not three numbers: XNNPACK would handle three elements at a time.
    row = np.tile(mean, pixels.shape[2]).reshape(1, 1, pixels.shape[2], 3)
    return pixels - row, factor


def _add_network(
    graph: Graph, x: KerasTensor, network: nn.Module, name: str, scale: NDArray[np.float64]
) -> KerasTensor:
    """Add the network, or the average of its members."""
    members = _members(network)
    scores = [_add_member(graph, x, member, name + suffix, scale) for suffix, member in members]
    total = scores[0]
    for score in scores[1:]:
        total = total + score
    return total if len(scores) == 1 else total * (1.0 / len(scores))


def _add_member(
    graph: Graph, x: KerasTensor, member: Any, name: str, scale: NDArray[np.float64]
) -> KerasTensor:
    backbone, at = member.backbone, f"{name}.backbone"
    match backbone:
        case EdgeNeXt():
            x = graph.mean_pool(add_edgenext(graph, x, backbone, at))
        case ShuffleNetV2():
            x = add_shufflenet(graph, x, backbone, at, input_scale=scale)
        case _:  # its classifier is its head
            return add_mobilenet(graph, x, backbone, at, input_scale=scale)
    x = graph.pointwise(x, f"{name}.head", weights_of(member.head))
    return graph.watch(f"{name}.head", x, channels_first=False)
