"""Rewrites that make a network easy to quantise, each exact in real arithmetic.

- ``frame_image``: a stem that pads its normalised input with zeros reads pixels with the mean
  colour around them instead, and takes over the normalisation: pixels are exact in 8 bits;
- ``fold_batch_norms``: ``γ (W x + b − μ)/σ + β`` becomes one convolution;
- ``smooth``: layers with a ReLU (or nothing) between may trade scale channel by channel,
  ``W₂ relu(W₁ x + b₁) = (W₂ S) relu(S⁻¹ (W₁ x + b₁))`` (cross-layer equalisation, Nagel et al.
  2019, arXiv 1906.04721, eq. 11). Weights have a scale an output channel, so W₁ bears any S; S is
  chosen for the activation, which has only one, as in SmoothQuant (arXiv 2211.10438, eq. 4).

The folds of LayerNorm's affine, layer scale, normalisation and head are those of every export
(``edgefiqa.convert.prepare``).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from edgefiqa.convert import ExportScorer, Normalise
from edgefiqa.quantize.graph import Chain, neighbours
from edgefiqa.quantize.statistics import Observed, observe

__all__ = ["Frame", "Prepared", "fold_batch_norms", "frame_image", "prepare_for_int8", "smooth"]

_SCALE_FREE = (None, "relu")
_LIMITS = (1e-3, 1e3)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network that is ready to be quantised.

    Attributes:
        scorer: The rewritten copy; ``folded`` lists what was done.
        chain: The neighbours of its layers.
    """

    scorer: ExportScorer
    chain: Chain


def prepare_for_int8(
    scorer: ExportScorer, images: NDArray[np.uint8], *, smooth_channels: bool = True
) -> Prepared:
    """Apply every rewrite to a copy.

    Args:
        scorer: The network as it would be exported in float; it is not changed.
        images: Images of the calibration set, uint8 ``[n, S, S, 3]``.
        smooth_channels: Whether channels that share an activation scale are evened out.

    Raises:
        DataError: A layer gives values that are not finite.
    """
    prepared, image = copy.deepcopy(scorer), torch.from_numpy(images[:1])
    notes = (
        ["normalisation → framed image, first convolution"] if frame_image(prepared, image) else []
    )
    chain = neighbours(prepared, image)
    if folded := fold_batch_norms(prepared, chain):
        notes.append(f"{folded} batch norms → their convolutions")
        chain = neighbours(prepared, image)
    if smooth_channels and (smoothed := smooth(prepared, chain, observe(prepared, images))):
        notes.append(f"channels of {smoothed} activations smoothed into the weights around them")
    prepared.folded = [*prepared.folded, *notes]
    return Prepared(scorer=prepared, chain=chain)


class Frame(nn.Module):
    """Puts a colour around an image, as far as a convolution reads it.

    Args:
        colour: float ``[1, 3, 1, 1]``, 0..255.
        side: Side of the image, in pixels.
        before: Rows above and columns to the left.
        after: Rows below and columns to the right.
    """

    above: Tensor | None
    below: Tensor | None
    left: Tensor | None
    right: Tensor | None

    def __init__(
        self, colour: Tensor, side: int, before: tuple[int, int], after: tuple[int, int]
    ) -> None:
        super().__init__()
        tall = side + before[0] + after[0]
        for name, shape in {
            "above": (before[0], side),
            "below": (after[0], side),
            "left": (tall, before[1]),
            "right": (tall, after[1]),
        }.items():
            strip = colour.expand(1, 3, *shape).contiguous() if all(shape) else None
            self.register_buffer(name, strip)

    def forward(self, pixels: Tensor) -> Tensor:
        """Frame: float ``[1, 3, S, S]`` → ``[1, 3, tall, wide]``."""
        for axis, before, after in ((2, self.above, self.below), (3, self.left, self.right)):
            parts = [part for part in (before, pixels, after) if part is not None]
            pixels = torch.cat(parts, axis) if len(parts) > 1 else pixels
        return pixels


@torch.no_grad()
def frame_image(scorer: ExportScorer, image: Tensor) -> bool:
    """Fold a normalisation into the stems that read it, in place, although they pad.

    With ``W·n(x) = (W/(255 s))·x − Σ W·m/s`` as for a stem that does not pad, and ``n(255 m) = 0``.

    Args:
        scorer: The network.
        image: An example of its input.

    Returns:
        Whether it is folded: if convolutions of one geometry, and nothing else, read what is
        normalised.
    """
    normalise = scorer.normalise
    if not isinstance(normalise, Normalise):
        return False
    stems, wanted = _stems(scorer, image), scorer(image)
    geometries = {_geometry(stem) for stem in stems}
    if len(geometries) != 1 or any(stem.groups != 1 for stem in stems):
        return False
    kernel, step, pad, dilation, mode = geometries.pop()
    if isinstance(pad, str) or mode != "zeros":
        return False
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    side = image.shape[1]
    after = [
        max(0, (side + 2 * p - r) // s * s + r - p - side)
        for p, r, s in zip(pad, reach, step, strict=True)
    ]
    kept = [(stem.weight, stem.bias) for stem in stems]
    for stem in stems:
        _take_over(stem, normalise)
        stem.padding = (0, 0)
    scorer.normalise = Frame(normalise.mean, side, (pad[0], pad[1]), (after[0], after[1]))
    if torch.allclose(scorer(image), wanted, rtol=1e-3, atol=1e-3):
        return True
    scorer.normalise = normalise  # something else reads it too
    for stem, (weight, bias) in zip(stems, kept, strict=True):
        stem.weight, stem.bias, stem.padding = weight, bias, pad
    return False


def _stems(scorer: ExportScorer, image: Tensor) -> list[nn.Conv2d]:
    """Find the convolutions that read the normalised image."""
    seen: list[Tensor] = []
    stems: list[nn.Conv2d] = []

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d) and args[0] is seen[0] and module not in stems:
            stems.append(module)

    hooks = [scorer.normalise.register_forward_hook(lambda *called: seen.append(called[2]))]
    hooks += [module.register_forward_pre_hook(note) for module in scorer.network.modules()]
    scorer(image)
    for hook in hooks:
        hook.remove()
    return stems


def _geometry(stem: nn.Conv2d) -> tuple[Any, ...]:
    return stem.kernel_size, stem.stride, stem.padding, stem.dilation, stem.padding_mode


def _take_over(stem: nn.Conv2d, normalise: Normalise) -> None:
    """Give a convolution the weights that it needs on pixels."""
    weight = stem.weight.double() * normalise.factor.double()
    shift = (weight * normalise.mean.double()).sum((1, 2, 3))
    bias = torch.zeros_like(shift) if stem.bias is None else stem.bias.double()
    stem.weight = nn.Parameter(weight.float())
    stem.bias = nn.Parameter((bias - shift).float())


@torch.no_grad()
def fold_batch_norms(scorer: nn.Module, chain: Chain) -> int:
    """Fold every batch norm that alone reads a convolution into it, in place.

    A timm norm that carries an activation leaves the activation behind.

    Returns:
        How many were folded.
    """
    folded = 0
    for name, neighbour in chain.items():
        if neighbour.batch_norm is None:
            continue
        conv, norm = scorer.get_submodule(name), scorer.get_submodule(neighbour.batch_norm)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        parent, _, child = neighbour.batch_norm.rpartition(".")
        setattr(scorer.get_submodule(parent), child, getattr(norm, "act", nn.Identity()))
        folded += 1
    return folded


@torch.no_grad()
def smooth(scorer: nn.Module, chain: Chain, observed: Mapping[str, Observed]) -> int:
    """Even out the channels that share one activation scale, in place.

    Args:
        scorer: The network, its batch norms folded.
        chain: Its neighbours.
        observed: What its layers read.

    Returns:
        How many layers' outputs were rescaled.
    """
    done = 0
    for name, neighbour in chain.items():
        readers = [scorer.get_submodule(reader) for reader in neighbour.readers]
        writer = scorer.get_submodule(name)
        if (
            not readers
            or neighbour.batch_norm is not None
            or neighbour.activation not in _SCALE_FREE
        ):
            continue
        if not all(_fits(writer, reader) for reader in readers):
            continue
        peaks = [observed[reader].input_peak for reader in neighbour.readers]
        _rescale(writer, readers, torch.stack([peak for peak in peaks if peak is not None]).amax(0))
        done += 1
    return done


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1


def _fits(writer: nn.Module, reader: nn.Module) -> bool:
    """Tell whether the reader's weight has an input channel for each output of the writer."""
    if not isinstance(writer, nn.Conv2d | nn.Linear) or type(writer) is not type(reader):
        return False
    assert isinstance(reader, nn.Conv2d | nn.Linear)
    outputs = writer.weight.shape[0]
    if isinstance(reader, nn.Conv2d) and reader.groups > 1:
        return reader.groups == reader.in_channels == outputs == reader.out_channels
    return reader.weight.shape[1] == outputs


def _rescale(writer: nn.Module, readers: Sequence[nn.Module], peak: Tensor) -> None:
    """Divide the writer's output channels by a scale and multiply the readers' inputs by it."""
    mixing = [reader for reader in readers if not _is_depthwise(reader)]
    scale = peak.clone()
    if mixing:
        # A reader that mixes channels has one weight scale for all of them: it shares the burden,
        # s = √(max|x| / max|w|). A depthwise reader has a scale a channel: it takes all of it.
        weights = [_weight(reader).transpose(0, 1).flatten(1).abs().amax(1) for reader in mixing]
        scale = (peak / torch.stack(weights).amax(0).clamp_min(1e-30)).sqrt()
    usable = scale > 0
    # Only ratios matter: keep the tensor's geometric mean.
    scale = scale / scale[usable].log().mean().exp() if bool(usable.any()) else scale
    scale = torch.where(usable, scale, torch.ones_like(scale)).clamp(*_LIMITS)
    assert isinstance(writer, nn.Conv2d | nn.Linear)
    writer.weight /= scale.view(-1, *[1] * (writer.weight.dim() - 1))
    if writer.bias is not None:
        writer.bias /= scale
    for reader in readers:
        weight = _weight(reader)
        along = (-1,) if _is_depthwise(reader) else (1, -1)
        weight *= scale.view(*along, *[1] * (weight.dim() - len(along)))


def _weight(module: nn.Module) -> Tensor:
    assert isinstance(module, nn.Conv2d | nn.Linear)
    return module.weight
