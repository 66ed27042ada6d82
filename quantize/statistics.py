"""What flows through each layer on the calibration images, and the 8-bit ranges made from it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert import ExportScorer, Normalise
from edgefiqa.errors import DataError
from edgefiqa.quantize.plan import Layer, Range, find_layers, kind_of

__all__ = ["Flow", "Observed", "choose_range", "describe_layers", "observe"]

_SAMPLES = 1024  # of a tensor, in one image
_OPERANDS = 64  # positions of a layer's output, in one image
_FRACTIONS = [1 - number / 50 for number in range(41)]
# Outside these, the activation behind a layer is flat: clipping there changes nothing after it.
_FLAT: dict[str, tuple[float, float]] = {
    "relu": (0.0, np.inf),
    "hardswish": (-3.0, np.inf),
    "hardsigmoid": (-3.0, 3.0),
    "gelu": (-4.0, np.inf),
    "silu": (-12.0, np.inf),
    "sigmoid": (-12.0, 12.0),
}


@dataclass(kw_only=True)
class Flow:
    """One tensor over all calibration images.

    Attributes:
        low: Smallest value.
        high: Largest value.
        relative_low: Smallest value as a share of its image's largest magnitude, −1..0.
        relative_high: Largest value as such a share, 0..1.
        samples: A random draw of values, float32.
    """

    low: float = np.inf
    high: float = -np.inf
    relative_low: float = 0.0
    relative_high: float = 0.0
    samples: list[Tensor] = field(default_factory=list)

    def add(self, values: Tensor, generator: torch.Generator) -> None:
        """Take in one image's tensor."""
        flat = values.flatten()
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if peak := max(-low, high):
            self.relative_low = min(self.relative_low, low / peak)
            self.relative_high = max(self.relative_high, high / peak)
        places = torch.randint(0, len(flat), (_SAMPLES,), generator=generator)
        self.samples.append(flat[places].clone())

    @property
    def relative(self) -> Range:
        """What the values span as a share of each image's largest magnitude."""
        if self.relative_high <= self.relative_low:
            return Range(low=0.0, high=1.0)
        return Range(low=self.relative_low, high=self.relative_high)


@dataclass(kw_only=True)
class Observed:
    """What one layer read and wrote.

    Attributes:
        input: Its input.
        output: Its output, bias included.
        input_mean: Mean of each input channel, float64 ``[C]``; for bias correction.
        input_peak: Largest magnitude of each input channel, float32 ``[C]``; for smoothing.
        covariance: Second moments of an output value's inputs, float64 ``[groups, d, d]``: d inputs
            of a Linear, taps times channels of a group of a convolution; for the rounding of
            weights.
    """

    input: Flow = field(default_factory=Flow)
    output: Flow = field(default_factory=Flow)
    input_mean: Tensor | None = None
    input_peak: Tensor | None = None
    covariance: Tensor | None = None
    images: int = 0


def describe_layers(scorer: ExportScorer, image: Tensor) -> list[Layer]:
    """List the layers of a network in the order they run, with their multiply-adds.

    Args:
        scorer: The network.
        image: An example of its input.
    """
    found: list[Layer] = []
    read: list[Tensor] = []  # by the network, behind what is left of the normalisation

    def note(name: str, module: nn.Conv2d | nn.Linear, given: Tensor, output: Tensor) -> None:
        per_output = module.weight[0].numel()
        found.append(
            Layer(
                name=name,
                kind=kind_of(module),
                macs=output.numel() * per_output,
                parameters=sum(parameter.numel() for parameter in module.parameters()),
                regression=isinstance(module, nn.Linear) and module.out_features == 1,
                pixels=given is read[0] and not isinstance(scorer.normalise, Normalise),
            )
        )

    hook = scorer.normalise.register_forward_hook(lambda *called: read.append(called[2]))
    with _watching(scorer, note), torch.inference_mode():
        scorer(image)
    hook.remove()
    return found


@contextmanager
def _watching(
    scorer: nn.Module,
    note: Callable[[str, nn.Conv2d | nn.Linear, Tensor, Tensor], None],
) -> Iterator[None]:
    handles = [
        module.register_forward_hook(
            lambda layer_module, given, output, name=name: note(
                name, layer_module, given[0], output
            )
        )
        for name, module in find_layers(scorer).items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def observe(
    scorer: ExportScorer,
    images: NDArray[np.uint8],
    *,
    on_image: Callable[[], None] = lambda: None,
) -> dict[str, Observed]:
    """Run the calibration images through the float network.

    Args:
        scorer: The network that will be quantised.
        images: uint8 ``[n, S, S, 3]``.
        on_image: Called after each image.

    Returns:
        Layer name → what it read and wrote.

    Raises:
        DataError: A layer gives values that are not finite; the layer and the image are named.
    """
    found: dict[str, Observed] = {}
    draws: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(0)
    number = 0

    def note(name: str, module: nn.Conv2d | nn.Linear, given: Tensor, output: Tensor) -> None:
        if not bool(torch.isfinite(output).all()):
            raise DataError(
                "the float network gives values that are not finite",
                value=f"layer {name}, calibration image {number}",
                next_step="check the weights; nothing can be calibrated with them",
            )
        observed = found.setdefault(name, Observed())
        observed.input.add(given, generator)
        observed.output.add(output, generator)
        by_channel = given.transpose(1, -1) if isinstance(module, nn.Conv2d) else given
        rows = by_channel.reshape(-1, by_channel.shape[-1])
        mean, peak = rows.double().mean(0), rows.abs().amax(0)
        observed.input_mean = mean if observed.input_mean is None else observed.input_mean + mean
        observed.input_peak = (
            peak if observed.input_peak is None else observed.input_peak.maximum(peak)
        )
        observed.images += 1
        draws.setdefault(name, []).append(_draw_operands(module, given, generator))

    with _watching(scorer, note), torch.inference_mode():
        for number, image in enumerate(images):  # noqa: B007 - named by the error
            scorer(torch.from_numpy(image[np.newaxis]))
            on_image()
    for name, observed in found.items():
        assert observed.input_mean is not None
        observed.input_mean = observed.input_mean / observed.images
        operands = torch.cat(draws.pop(name), 1).double()
        operands -= operands.mean(1, keepdim=True)
        observed.covariance = operands.mT @ operands / operands.shape[1]
    return found


def _draw_operands(
    module: nn.Conv2d | nn.Linear, given: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw what some output values are computed from, float32 ``[groups, draws, d]``."""
    if isinstance(module, nn.Linear):
        rows = given.reshape(-1, given.shape[-1])
        return rows[torch.randint(len(rows), (_OPERANDS,), generator=generator)][None].clone()
    padded = nn.functional.pad(given[0], [*_margins(module, 1), *_margins(module, 0)])
    offsets = []
    for axis, step in enumerate(module.stride):
        taps = torch.arange(module.kernel_size[axis]) * module.dilation[axis]
        places = (padded.shape[axis + 1] - 1 - int(taps[-1])) // step + 1
        starts = torch.randint(places, (_OPERANDS, 1), generator=generator) * step
        offsets.append(starts + taps)
    patches = padded[:, offsets[0][:, :, None], offsets[1][:, None, :]]  # [C, draws, kh, kw]
    by_group = patches.reshape(module.groups, -1, *patches.shape[1:]).transpose(1, 2)
    return by_group.flatten(2)


def _margins(module: nn.Conv2d, axis: int) -> tuple[int, int]:
    """Return what a convolution pads before and behind an axis, as torch does."""
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        total = module.dilation[axis] * (module.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    return int(module.padding[axis]), int(module.padding[axis])


def choose_range(flow: Flow, *, activation: str | None = None) -> Range:
    """Choose the range whose 8-bit codes have the least squared error on the samples.

    Each end is tried from the extreme to a fifth of it. Where a flat part of the activation behind
    makes values indistinguishable, the range ends there: that clips nothing that matters.

    Args:
        flow: The tensor.
        activation: What reads it.
    """
    values = torch.cat(flow.samples).double().numpy()
    floor, ceiling = _FLAT.get(activation or "", (-np.inf, np.inf))
    values = np.clip(values, floor, ceiling)
    low = float(np.clip(min(flow.low, 0.0), min(floor, 0.0), 0.0))
    high = float(np.clip(max(flow.high, 0.0), 0.0, max(ceiling, 0.0)))
    if high - low < 1e-8:
        return Range(low=0.0, high=1.0)
    # First the longer end, then the other: the error is nearly separable in them.
    best = Range(low=low, high=high)
    for end in ("high", "low") if high > -low else ("low", "high"):
        tried = [replace(best, **{end: getattr(best, end) * share}) for share in _FRACTIONS]
        best = min(tried, key=lambda candidate: _squared_error(values, candidate))
    return best


def _squared_error(values: NDArray[np.float64], range_: Range) -> float:
    scale, zero = range_.affine(signed=False)
    codes = np.clip(np.round(values / scale) + zero, 0, 255)
    return float(np.mean(((codes - zero) * scale - values) ** 2))
