"""The models by name, with the figures their papers print."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edgefiqa.models import networks
from edgefiqa.registry import Registry

__all__ = ["MODELS", "TIMM_PREFIX", "ModelSpec", "build", "get_spec"]

TIMM_PREFIX = "timm:"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A named architecture.

    Attributes:
        name: The name users type.
        make: Builds the network with random weights.
        size: Input side in pixels it is usually run at.
        source: Where it is published.
        published_parameters: Parameters as printed there, in millions; None if not printed.
        published_gflops: GFLOPs (1 multiply-add = 1) as printed, by input side.
        note: What the published figures leave open.
    """

    name: str
    make: Callable[[], nn.Module]
    size: int
    source: str
    published_parameters: float | None = None
    published_gflops: tuple[tuple[int, float], ...] = ()
    note: str = ""


MODELS: Registry[ModelSpec] = Registry("model")

for _spec in (
    ModelSpec(
        name="efficient-fiqa-student",
        make=networks.edgenext_student,
        size=288,
        source="arXiv 2507.15709",
        published_parameters=1.1796,
        published_gflops=((288, 0.3313), (336, 0.4442), (352, 0.4949)),
    ),
    ModelSpec(
        name="efficient-fiqa-teacher",
        make=networks.swin_teacher,
        size=448,
        source="arXiv 2507.15709",
        published_parameters=86.87,
        published_gflops=((448, 50.13),),
        note="the paper's counter is unknown: fvcore counts 61.87 at 448",
    ),
    ModelSpec(
        name="mspt",
        make=lambda: networks.mobilenet_scorer("mobilenetv3_small_100"),
        size=640,
        source="arXiv 2508.07590",
        published_parameters=1.5189,
        published_gflops=((640, 0.4687),),
    ),
    ModelSpec(
        name="ensemble",
        make=lambda: networks.AverageFusion(
            [networks.mobilenet_scorer("mobilenetv3_small_100"), networks.shufflenet_scorer()]
        ),
        size=448,
        source="arXiv 2509.10114",
        published_parameters=2.0916,
        note="0.4985 GFLOPs printed; heads and input size are not published: a reconstruction",
    ),
    ModelSpec(
        name="mobilenetv2",
        make=lambda: networks.mobilenet_scorer("mobilenetv2_100"),
        size=224,
        source="the challenge's baseline",
    ),
):
    MODELS.add(_spec.name, _spec)


def get_spec(name: str) -> ModelSpec:
    """Return the spec of a model name, or of ``timm:<backbone>``.

    Raises:
        UnknownNameError: If the name is neither.
    """
    if name.startswith(TIMM_PREFIX):
        variant = name.removeprefix(TIMM_PREFIX)
        return ModelSpec(
            name=name, make=lambda: networks.timm_scorer(variant), size=224, source="timm"
        )
    return MODELS.get(name)


def build(name: str) -> nn.Module:
    """Build a model with random weights.

    Args:
        name: A registered name (``edgefiqa models`` lists them) or ``timm:<backbone>``.

    Returns:
        The network in training mode: float32 ``[n, 3, S, S]`` normalised → float32 ``[n]``.

    Raises:
        UnknownNameError: If there is no such model.
    """
    return get_spec(name).make()
