"""What each layer of a scorer shall be executed in: the plan that every format is given.

A *layer* is a convolution or a Linear of the prepared network, by its dotted torch name. A *block*
is the layers of one parent module, its depthwise ones apart; it goes to int8 or float as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from torch import nn

__all__ = [
    "PIXELS",
    "Kind",
    "Layer",
    "LayerPlan",
    "Mode",
    "QuantizationPlan",
    "Range",
    "find_layers",
    "kind_of",
]


class Mode(StrEnum):
    """How a layer multiplies."""

    FLOAT = "float"
    STATIC = "static"
    """int8 weights × 8-bit activations whose range was calibrated."""
    DYNAMIC = "dynamic"
    """int8 weights × 8-bit activations whose range is taken from the activations themselves."""
    WEIGHT = "weight"
    """int8 weights in the file, float arithmetic."""


class Kind(StrEnum):
    """What backends treat differently."""

    LINEAR = "linear"
    CONV = "conv"
    DEPTHWISE = "depthwise"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution or Linear.

    Attributes:
        name: Its dotted name in the ``ExportScorer``.
        kind: Its kind; grouped convolutions count as depthwise.
        macs: Multiply-adds of one image.
        parameters: Number of weights and biases.
        regression: Whether it is the last layer, which computes the score.
        pixels: Whether it reads the image, 0..255: pixels are codes already, exact in 8 bits.
    """

    name: str
    kind: Kind
    macs: int
    parameters: int
    regression: bool = False
    pixels: bool = False

    @property
    def block(self) -> str:
        """The block it belongs to: its parent module, or the layer itself if it is depthwise.

        Depthwise layers have few multiply-adds and sensitive inputs, so they stand for themselves.
        """
        if self.kind is Kind.DEPTHWISE:
            return self.name.partition(".parts.")[0]  # of one that was split, see convert.xnnpack
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Range:
    """What 8-bit codes span; zero is always inside, and is one of the codes.

    Attributes:
        low: At most 0.
        high: At least 0, and above `low`.
    """

    low: float
    high: float

    def affine(self, *, signed: bool = True) -> tuple[float, int]:
        """Return scale and zero point of int8 (or uint8) codes: ``x ≈ scale · (code − zero)``."""
        scale = (self.high - self.low) / 255
        zero = round(-self.low / scale)
        return scale, zero - 128 if signed else zero


PIXELS = Range(low=0.0, high=255.0)
"""What an image spans: its codes are its pixels."""


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """How one layer is executed.

    Attributes:
        layer: The layer.
        mode: The mode.
        input: Range of what it reads; for ``STATIC``.
        output: Range of what it writes, bias included and before any activation; for ``STATIC``
            where a format must quantise it too.
        relative: Range of what it reads as a share of the image's largest magnitude; for
            ``DYNAMIC`` where a format's ranges are constants.
    """

    layer: Layer
    mode: Mode
    input: Range | None = None
    output: Range | None = None
    relative: Range | None = None

    def __post_init__(self) -> None:
        if self.mode is Mode.STATIC and (self.input is None or self.output is None):
            msg = f"{self.layer.name}: a static layer needs the ranges of its input and output"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """The plans of all layers, in the order they run."""

    layers: tuple[LayerPlan, ...]

    def __getitem__(self, name: str) -> LayerPlan:
        for planned in self.layers:
            if planned.layer.name == name:
                return planned
        raise KeyError(name)

    def in_mode(self, *modes: Mode) -> list[str]:
        """Return the names of the layers in these modes."""
        return [planned.layer.name for planned in self.layers if planned.mode in modes]

    def without(self, blocks: Iterable[str], mode: Mode = Mode.FLOAT) -> "QuantizationPlan":
        """Return the plan with whole blocks in another mode."""
        free = set(blocks)
        return QuantizationPlan(
            layers=tuple(
                replace(planned, mode=mode) if planned.layer.block in free else planned
                for planned in self.layers
            )
        )

    def share(self, *modes: Mode) -> float:
        """Return the share of multiply-adds that the plan gives to these modes."""
        total = sum(planned.layer.macs for planned in self.layers)
        return sum(planned.layer.macs for planned in self.layers if planned.mode in modes) / total


def kind_of(module: nn.Conv2d | nn.Linear) -> Kind:
    """Return a layer's kind."""
    if isinstance(module, nn.Linear):
        return Kind.LINEAR
    return Kind.CONV if module.groups == 1 else Kind.DEPTHWISE


def find_layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return every convolution and Linear by dotted name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
