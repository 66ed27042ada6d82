"""Rewrites that make a network easy to quantise, each exact in real arithmetic.

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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.quantize.graph import Chain, neighbours
from edgefiqa.quantize.statistics import Observed, observe

__all__ = ["Prepared", "fold_batch_norms", "prepare_for_int8", "smooth"]

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
        images: Of the calibration set, uint8 ``[n, S, S, 3]``.
        smooth_channels: Whether channels that share an activation scale are evened out.

    Raises:
        DataError: A layer gives values that are not finite.
    """
    own, image = copy.deepcopy(scorer), torch.from_numpy(images[:1])
    chain = neighbours(own, image)
    notes = []
    if folded := fold_batch_norms(own, chain):
        notes.append(f"{folded} batch norms → their convolutions")
        chain = neighbours(own, image)
    if smooth_channels and (smoothed := smooth(own, chain, observe(own, images))):
        notes.append(f"channels of {smoothed} activations smoothed into the weights around them")
    own.folded = [*own.folded, *notes]
    return Prepared(scorer=own, chain=chain)


@torch.no_grad()
def fold_batch_norms(scorer: nn.Module, chain: Chain) -> int:
    """Fold every batch norm that alone reads a convolution into it, in place.

    A timm norm that carries an activation leaves the activation behind.

    Returns:
        How many were folded.
    """
    folded = 0
    for name, own in chain.items():
        if own.batch_norm is None:
            continue
        conv, norm = scorer.get_submodule(name), scorer.get_submodule(own.batch_norm)
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
        parent, _, child = own.batch_norm.rpartition(".")
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
    for name, own in chain.items():
        readers = [scorer.get_submodule(reader) for reader in own.readers]
        writer = scorer.get_submodule(name)
        if not readers or own.batch_norm is not None or own.activation not in _SCALE_FREE:
            continue
        if not all(_fits(writer, reader) for reader in readers):
            continue
        peaks = [observed[reader].input_peak for reader in own.readers]
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
