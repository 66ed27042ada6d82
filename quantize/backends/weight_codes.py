"""int8 codes of weights, and how a layer is recognised in a file by its weights."""

import hashlib
from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgefiqa.convert import ExportScorer

__all__ = ["Fingerprints", "bias_of", "fingerprint", "symmetric_codes", "weights_of"]

MAX_CODE = 127


def symmetric_codes(
    weight: NDArray[np.float32], least_scales: NDArray[np.float64] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise by the largest value of each output channel, w ≈ scale · code.

    Weights that lie on such a grid get the codes that they were made from.

    Args:
        weight: float32 ``[out, …]``.
        least_scales: float64 ``[out]``; scales are at least these.

    Returns:
        Codes of −127..127, int8 ``[out, …]``, and scales, float32 ``[out]``; a channel of zeros
        has the scale 1 where none is asked for.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(rows).max(1)
    wanted = np.maximum(largest / MAX_CODE, least_scales)
    scales = np.where(wanted > 0, wanted, 1.0).astype(np.float32)
    codes = np.clip(np.rint(rows / scales[:, None].astype(np.float64)), -MAX_CODE, MAX_CODE)
    return codes.astype(np.int8).reshape(weight.shape), scales


def fingerprint(values: NDArray[np.float32] | NDArray[np.int8]) -> str:
    """Return a hash of the magnitudes of a tensor, whatever its layout and padding.

    Tools transpose weights, pad them with zeros and flip signs by zero points; the sorted
    magnitudes other than zero stay.
    """
    magnitudes = np.abs(values.astype(np.float32)).ravel()
    ordered = np.sort(magnitudes[magnitudes > 0])
    return hashlib.sha256(ordered.tobytes()).hexdigest()


class Fingerprints:
    """Layer names by fingerprint; layers of equal weights are given out in their order.

    Args:
        weights: Layer name and weight, in the order the layers run.
    """

    def __init__(
        self, weights: Iterable[tuple[str, NDArray[np.float32] | NDArray[np.int8]]]
    ) -> None:
        self._waiting: dict[str, deque[str]] = {}
        for name, weight in weights:
            self._waiting.setdefault(fingerprint(weight), deque()).append(name)

    def take(self, values: NDArray[np.float32] | NDArray[np.int8]) -> str | None:
        """Return the next layer with these weights, or None if there is none (left)."""
        waiting = self._waiting.get(fingerprint(values))
        return waiting.popleft() if waiting else None

    @property
    def left(self) -> list[str]:
        """The layers that nobody took."""
        return [name for waiting in self._waiting.values() for name in waiting]


def bias_of(scorer: ExportScorer, name: str) -> NDArray[np.float32]:
    """Return the bias of a layer, float32 ``[out]``; zeros where it has none."""
    layer = scorer.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    if layer.bias is None:
        return np.zeros(layer.weight.shape[0], np.float32)
    return layer.bias.detach().numpy()


def weights_of(scorer: ExportScorer, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Return the weights of layers by name, float32 ``[out, …]``, in the order of the names."""
    found = {}
    for name in names:
        layer = scorer.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        found[name] = layer.weight.detach().numpy()
    return found
