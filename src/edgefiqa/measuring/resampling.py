"""Bootstrap over clusters, with weights in place of copied rows.

A resample gives every row the number of times its cluster was drawn. Statistics of all resamples
are then a few matrix products, ranks included: a row's rank in a resample is the weight below it,
plus half of the weight of its tie. The results equal those on the copied rows; a thousand resamples
of a thousand rows take a second.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import UsageError

__all__ = [
    "Ranked",
    "draw_weights",
    "weighted_kendall",
    "weighted_mean",
    "weighted_pearson",
    "weighted_quantile",
    "weighted_spearman",
]

Array = NDArray[np.float64]

_CELLS = 2_000_000  # of one block of weights: 16 MB


def draw_weights(clusters: Sequence[str], *, n: int, seed: int) -> Iterator[Array]:
    """Draw whole clusters, as often as there are clusters, n times.

    The draws are those of `edgefiqa.metrics.bootstrap_clusters` with the same seed.

    Args:
        clusters: The cluster of each row.
        n: Resamples.
        seed: Seed of the drawing.

    Yields:
        Blocks of weights ``[B, rows]``, whole numbers; n of them in all.

    Raises:
        UsageError: ``n`` is below 1.
    """
    if n < 1:
        raise UsageError("the bootstrap needs resamples", value=n, allowed="1 or more")
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // max(1, len(codes)))
    for first in range(0, n, block):
        draws = [
            np.bincount(rng.integers(0, len(names), size=len(names)), minlength=len(names))
            for _ in range(min(block, n - first))
        ]
        yield np.asarray(draws, np.float64)[:, codes]


class Ranked:
    """A sequence of values, sorted once, so that each resample is ranked without sorting.

    Attributes:
        values: As given.
        centred: The same less their mean, so that sums of squares do not cancel.
    """

    def __init__(self, values: Array) -> None:
        self.values = values
        self.centred = values - values.mean() if len(values) else values
        self._order = np.argsort(values, kind="stable")
        ascending = values[self._order]
        self._first = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        self._codes = np.empty(len(values), np.int64)
        self._codes[self._order] = np.repeat(
            np.arange(len(self._first)), np.diff(np.r_[self._first, len(values)])
        )

    def tie_weights(self, weights: Array) -> Array:
        """Return the weight of each distinct value, ascending: ``[B, distinct]``."""
        return np.asarray(np.add.reduceat(weights[:, self._order], self._first, axis=1))

    def ranks(self, weights: Array) -> Array:
        """Return each row's average rank in each resample ``[B, rows]``."""
        ties = self.tie_weights(weights)
        return np.asarray((np.cumsum(ties, axis=1) - (ties - 1) / 2)[:, self._codes])

    def is_constant(self, weights: Array) -> NDArray[np.bool_]:
        """Tell which resamples hold one distinct value at most."""
        return np.asarray((self.tie_weights(weights) > 0).sum(axis=1) < 2)

    def at(self, weights: Array, order: Array) -> Array:
        """Return the value at an order, counted from 0, of each resample."""
        running = np.cumsum(self.tie_weights(weights), axis=1)
        place = (running > order[:, None]).argmax(axis=1)
        return np.asarray(self.values[self._order[self._first[place]]])


def weighted_mean(values: Array, weights: Array) -> Array:
    """Return the mean of each resample; nan for an empty one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights @ values / weights.sum(axis=1))


def _pearson(x: Array, y: Array, weights: Array, undefined: NDArray[np.bool_]) -> Array:
    """Correlate rows of x and y, ``[B or 1, rows]``, under the weights."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=1, keepdims=True)
        x = x - (weights * x).sum(axis=1, keepdims=True) / total
        y = y - (weights * y).sum(axis=1, keepdims=True) / total
        xy, xx, yy = ((weights * a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y)))
        r = np.clip(xy / np.sqrt(xx * yy), -1, 1)
    return np.asarray(np.where(undefined, math.nan, r))


def weighted_pearson(x: Ranked, y: Ranked, weights: Array) -> Array:
    """Return PLCC of each resample; nan where x or y is constant."""
    undefined = x.is_constant(weights) | y.is_constant(weights)
    # Division by the spread keeps the products of tiny and of huge scores in range.
    a, b = (v.centred / (np.abs(v.centred).max() or 1.0) for v in (x, y))
    return _pearson(a[None], b[None], weights, undefined)


def weighted_spearman(x: Ranked, y: Ranked, weights: Array) -> Array:
    """Return SRCC of each resample, ties at their average rank; nan where one is constant."""
    undefined = x.is_constant(weights) | y.is_constant(weights)
    return _pearson(x.ranks(weights), y.ranks(weights), weights, undefined)


def weighted_kendall(x: Ranked, y: Ranked, weights: Array) -> Array:
    """Return Kendall's tau-b of each resample; nan where one is constant.

    Takes a matrix of rows × rows.
    """
    signs = np.ones((len(x.values), len(y.values)))
    for array in (x, y):
        signs *= np.sign(array.values[:, None] - array.values[None])
    excess = ((weights @ signs) * weights).sum(axis=1) / 2
    total = weights.sum(axis=1)
    pairs = total * (total - 1) / 2
    free = []
    for array in (x, y):
        ties = array.tie_weights(weights)
        free.append(pairs - (ties * (ties - 1) / 2).sum(axis=1))
    undefined = x.is_constant(weights) | y.is_constant(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = np.clip(excess / np.sqrt(free[0] * free[1]), -1, 1)
    return np.asarray(np.where(undefined, math.nan, tau))


def weighted_quantile(values: Ranked, q: float, weights: Array) -> Array:
    """Return a quantile of each resample, interpolated as numpy does by default."""
    place = q * (weights.sum(axis=1) - 1)
    low, high = (values.at(weights, whole) for whole in (np.floor(place), np.ceil(place)))
    return np.asarray(low + (place - np.floor(place)) * (high - low))
