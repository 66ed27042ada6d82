"""How well predicted scores agree with labels.

Rank and linear correlation (SRCC, PLCC, KRCC), error (RMSE), the four-parameter logistic map that
quality assessment fits before a PLCC (VQEG), and bootstrap intervals. numpy alone; only the
logistic fit imports scipy, when it is called.

Every metric takes two sequences of the same length, at least 2, of finite numbers, else it raises
``DataError``. A correlation is undefined when either input is constant; it is then ``nan``, without
a warning, never 0: a scorer that always says the same must not pass for a merely poor one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefiqa.errors import DataError, MissingExtraError, UsageError

__all__ = [
    "Interval",
    "Logistic",
    "bootstrap_clusters",
    "bootstrap_interval",
    "fit_logistic",
    "krcc",
    "plcc",
    "plcc_fitted",
    "rmse",
    "srcc",
]

Array = NDArray[np.float64]


def srcc(predicted: ArrayLike, target: ArrayLike) -> float:
    """Compute Spearman's rank correlation; ties share their average rank.

    Returns:
        A value in −1..1, or nan if either input is constant.

    Raises:
        DataError: If the inputs are not two finite sequences of one length ≥ 2.
    """
    x, y = _pair(predicted, target)
    return _pearson(_average_ranks(x), _average_ranks(y))


def plcc(predicted: ArrayLike, target: ArrayLike) -> float:
    """Compute Pearson's linear correlation of the values as they are (see also ``plcc_fitted``).

    Returns:
        A value in −1..1, or nan if either input is constant.

    Raises:
        DataError: If the inputs are not two finite sequences of one length ≥ 2.
    """
    return _pearson(*_pair(predicted, target))


def krcc(predicted: ArrayLike, target: ArrayLike) -> float:
    """Compute Kendall's rank correlation tau-b in O(n log² n).

    With C concordant and D discordant among n₀ = n(n−1)/2 pairs, n₁ and n₂ of them tied in one
    input: τ = (C − D) / √((n₀ − n₁)(n₀ − n₂)).

    Returns:
        A value in −1..1, or nan if either input is constant.

    Raises:
        DataError: If the inputs are not two finite sequences of one length ≥ 2.
    """
    x, y = _pair(predicted, target)
    x_codes, x_counts = _codes(x)
    y_codes, y_counts = _codes(y)
    pairs = x.size * (x.size - 1) // 2
    x_free, y_free = pairs - _tied_pairs(x_counts), pairs - _tied_pairs(y_counts)
    if x_free == 0 or y_free == 0:
        return math.nan
    joint = x_codes * y_counts.size + y_codes
    tied_in_both = _tied_pairs(np.unique(joint, return_counts=True)[1])
    # Sorted by x and, within its ties, by y: what is out of order in y is discordant.
    discordant = _inversions(y_codes[np.argsort(joint, kind="stable")])
    tied_in_one = (pairs - x_free) + (pairs - y_free) - tied_in_both
    excess = pairs - tied_in_one - 2 * discordant
    return _clip(excess / math.sqrt(x_free * y_free))


def rmse(predicted: ArrayLike, target: ArrayLike) -> float:
    """Compute the root of the mean squared difference.

    Raises:
        DataError: If the inputs are not two finite sequences of one length ≥ 2.
    """
    x, y = _pair(predicted, target)
    exponent = _exponent(np.maximum(np.abs(x), np.abs(y)))
    difference = np.ldexp(x, -exponent) - np.ldexp(y, -exponent)
    return float(np.ldexp(np.sqrt(np.mean(difference * difference)), exponent))


@dataclass(frozen=True)
class Logistic:
    """The monotone map f(x) = (b1 − b2) / (1 + exp(−(x − b3) / |b4|)) + b2.

    Args:
        b1: Value approached at large x.
        b2: Value approached at small x.
        b3: Middle, in units of x.
        b4: Width, in units of x; its sign does not matter, 0 is refused.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(b) for b in (self.b1, self.b2, self.b3, self.b4)) or not self.b4:
            what = "the logistic map's parameters are not usable"
            value = (self.b1, self.b2, self.b3, self.b4)
            raise DataError(what, value=value, allowed="finite numbers, b4 not 0")

    def __call__(self, x: ArrayLike) -> Array:
        """Map values; the result has the shape of ``x`` (a scalar gives a 0-d array)."""
        z = (np.asarray(x, dtype=np.float64) - self.b3) / abs(self.b4)
        return np.asarray((self.b1 - self.b2) * _sigmoid(z) + self.b2)


def fit_logistic(x: ArrayLike, y: ArrayLike) -> Logistic:
    """Fit the four-parameter logistic map to y ≈ f(x) by least squares.

    The search runs over b3 and b4 only, b1 and b2 being the best straight line at each step. It
    starts from VQEG's guess (b3 = mean x, b4 = std x / 4) and from an almost straight curve, and
    keeps the better result, so the fit is never noticeably worse than a straight line. The curve
    falls (b1 < b2) where the data do.

    Args:
        x: Raw predictions.
        y: Labels.

    Returns:
        The fitted map.

    Raises:
        DataError: If the inputs are unusable, have fewer than 4 rows, or x is constant.
        MissingExtraError: If scipy is not installed.
    """
    x_values, y_values = _pair(x, y)
    if x_values.size < 4 or _is_constant(x_values):
        what = "a logistic map cannot be fitted"
        value = f"{x_values.size} rows, x from {x_values.min():g} to {x_values.max():g}"
        raise DataError(what, value=value, allowed="at least 4 rows and x not constant")
    if _is_constant(y_values):
        level = float(y_values[0])
        return Logistic(level, level, float(x_values.mean()), float(x_values.std()) or 1.0)
    return _fit_standardised(x_values, y_values)


def plcc_fitted(predicted: ArrayLike, target: ArrayLike) -> float:
    """Compute PLCC after mapping the predictions with ``fit_logistic``.

    The map may fall as well as rise, so a scorer that is upside down gets a positive value: always
    report ``plcc`` beside it.

    Returns:
        A value in −1..1, or nan if either input is constant.

    Raises:
        DataError: If the inputs are unusable or have fewer than 4 rows.
        MissingExtraError: If scipy is not installed.
    """
    x, y = _pair(predicted, target)
    if _is_constant(x) or _is_constant(y):
        return math.nan
    return _pearson(fit_logistic(x, y)(x), y)


@dataclass(frozen=True)
class Interval:
    """A metric with its bootstrap percentile interval.

    Args:
        value: The metric on all rows.
        low: Lower end.
        high: Upper end.
        confidence: Share of the resamples inside, in 0..1.
        n: Number of resamples drawn.
        n_undefined: How many of them gave nan (say, a constant resample) and were left out.
    """

    value: float
    low: float
    high: float
    confidence: float
    n: int
    n_undefined: int


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: ArrayLike,
    n: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Compute a metric and its percentile bootstrap interval.

    Rows are resampled jointly, so paired comparisons stay paired::

        bootstrap_interval(srcc, scores, labels)
        bootstrap_interval(lambda a, b, y: srcc(a, y) - srcc(b, y), int8, float32, labels)

    Args:
        metric: Takes the arrays in the order given and returns one number, nan where undefined.
        arrays: Sequences or arrays whose first axis is the rows.
        n: Number of resamples.
        seed: Seed of the resampling; equal seeds give equal intervals.
        confidence: Share of the resamples that the interval holds.

    Returns:
        The interval; its ends are nan if the metric is undefined on every resample.

    Raises:
        DataError: If the arrays differ in length or have fewer than 2 rows.
        UsageError: If there is no array, ``n`` < 1 or ``confidence`` is not inside 0..1.
    """
    if not arrays or n < 1 or not 0 < confidence < 1:
        what = "the bootstrap cannot be run"
        value = f"{len(arrays)} arrays, n={n}, confidence={confidence}"
        raise UsageError(what, value=value, allowed="an array or more, n ≥ 1, 0 < confidence < 1")
    columns: list[NDArray[Any]] = [np.asarray(array) for array in arrays]
    lengths = {column.shape[0] if column.ndim else 0 for column in columns}
    if len(lengths) != 1 or min(lengths) < 2:
        what = "the bootstrap needs rows that belong together"
        value = f"shapes {', '.join(str(column.shape) for column in columns)}"
        raise DataError(what, value=value, allowed="arrays of one length, at least 2 rows")
    rows = lengths.pop()
    rng = np.random.default_rng(seed)
    samples = np.empty(n)
    for index in range(n):
        chosen = rng.integers(0, rows, size=rows)
        samples[index] = metric(*(column[chosen] for column in columns))
    defined = samples[~np.isnan(samples)]
    tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
    low, high = np.quantile(defined, tails) if defined.size else (math.nan, math.nan)
    value_on_all = float(metric(*columns))
    return Interval(value_on_all, float(low), float(high), confidence, n, n - defined.size)


def bootstrap_clusters(
    metric: Callable[..., float],
    *arrays: NDArray[np.float64],
    clusters: ArrayLike,
    n: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Compute a metric and its bootstrap interval over resampled clusters.

    Args:
        metric: Takes the arrays in the order given; nan where it is undefined.
        arrays: Arrays of one length.
        clusters: The cluster of each row. Where each row is a cluster, in ascending order,
            the result equals that of `bootstrap_interval` bit by bit.
        n: Resamples.
        seed: Seed of the resampling.
        confidence: Share of the resamples inside.

    Returns:
        The interval; undefined if there are fewer than two clusters.

    Raises:
        DataError: The clusters do not fit the arrays.
    """
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    if any(len(array) != len(codes) for array in arrays):
        found = f"{len(codes)} clusters, arrays of {[len(array) for array in arrays]}"
        raise DataError("each row needs a cluster", value=found, allowed="one length")
    if len(names) < 2:
        return Interval(metric(*arrays), math.nan, math.nan, confidence, n, n)
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes))[:-1])

    def on_clusters(chosen: NDArray[np.int64]) -> float:
        rows = np.concatenate([members[cluster] for cluster in chosen])
        return metric(*(array[rows] for array in arrays))

    return bootstrap_interval(
        on_clusters, np.arange(len(names)), n=n, seed=seed, confidence=confidence
    )


def _pair(predicted: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    x, y = _vector(predicted, "first"), _vector(target, "second")
    if x.size != y.size or x.size < 2:
        what = "the two inputs do not pair up"
        raise DataError(
            what, value=f"{x.size} and {y.size} values", allowed="one length, at least 2"
        )
    return x, y


def _vector(values: ArrayLike, which: str) -> Array:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of unequal length
        what = f"the {which} input is not one sequence"
        raise DataError(what, value=str(error), allowed="shape (n,)") from error
    if array.dtype.kind not in "biuf":  # text is not parsed: a label file's reader does that
        what = f"the {which} input is not numeric"
        raise DataError(what, value=f"dtype {array.dtype}", allowed="a sequence of finite numbers")
    numbers = array.astype(np.float64)
    if numbers.ndim != 1:
        what = f"the {which} input is not one sequence"
        raise DataError(what, value=f"shape {numbers.shape}", allowed="shape (n,)")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        what = f"the {which} input holds values that are not finite"
        value = f"{bad.size} of {numbers.size}, the first at row {bad[0]} ({numbers[bad[0]]})"
        raise DataError(what, value=value, allowed="finite numbers")
    return numbers


def _is_constant(values: Array) -> bool:
    return bool(values.min() == values.max())


def _clip(r: float) -> float:
    return min(1.0, max(-1.0, r))


def _exponent(values: Array) -> int:
    """The power of two just above the largest magnitude; scaling by it is exact."""
    return int(np.frexp(np.max(np.abs(values)))[1])


def _unit_range(values: Array) -> Array:
    """Map values linearly to 0..1, free of overflow and, for close values, of cancellation."""
    scaled = np.ldexp(values, -_exponent(values))
    shifted = scaled - scaled.min()
    return np.asarray(shifted / shifted.max())


def _pearson(x: Array, y: Array) -> float:
    if _is_constant(x) or _is_constant(y):
        return math.nan
    x, y = _unit_range(x), _unit_range(y)
    x, y = x - x.mean(), y - y.mean()
    return _clip(float(np.dot(x, y) / math.sqrt(np.dot(x, x) * np.dot(y, y))))


def _codes(values: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the distinct values in ascending order, and count each."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return codes.astype(np.int64), counts.astype(np.int64)


def _average_ranks(values: Array) -> Array:
    codes, counts = _codes(values)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[codes])


def _tied_pairs(counts: NDArray[np.int64]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _inversions(codes: NDArray[np.int64]) -> int:
    """Count pairs i < j with codes[i] > codes[j], by a radix sort from the highest bit down.

    Two codes part at the highest bit in which they differ: within a group that agrees on all
    higher bits, every one that stands before a zero is an inversion.
    """
    total = 0
    for bit in reversed(range(int(codes.max()).bit_length())):
        group, one = codes >> (bit + 1), (codes >> bit) & 1
        ones_before = np.cumsum(one) - one
        start = np.searchsorted(group, group)
        total += int(((ones_before - ones_before[start]) * (1 - one)).sum())
        codes = codes[np.argsort(codes >> bit, kind="stable")]
    return total


def _sigmoid(z: Array) -> Array:
    # The same as 1 / (1 + exp(−z)), but tanh cannot overflow.
    return np.asarray(0.5 + 0.5 * np.tanh(z / 2))


def _fit_standardised(x: Array, y: Array) -> Logistic:
    try:
        from scipy.optimize import least_squares
    except ModuleNotFoundError as error:
        package, extra = "scipy", "train"
        raise MissingExtraError(package, extra) from error
    u, v = _unit_range(x), _unit_range(y)
    mean, std = float(u.mean()), float(u.std())

    def residuals(b: Array) -> Array:
        curve = _sigmoid((u - b[0]) / math.exp(b[1]))
        return np.asarray(np.polyval(_line(curve, v), curve) - v)

    # Middle and log width, in units of the range of x. VQEG's width is std / 4; a width of 10 is
    # close to a straight line and 100 is one to six digits, so wider ones gain nothing.
    bounds = ([-10.0, math.log(1e-6)], [11.0, math.log(100.0)])
    starts = [[mean, math.log(max(std / 4, 2e-6))], [mean, math.log(10.0)]]
    fits = [least_squares(residuals, start, bounds=bounds) for start in starts]
    middle, log_width = min(fits, key=lambda fit: float(fit.cost)).x.tolist()
    width = math.exp(log_width)
    rise, base = _line(_sigmoid((u - middle) / width), v)
    x_low, x_span = float(x.min()), float(np.ptp(x))
    y_low, y_span = float(y.min()), float(np.ptp(y))
    return Logistic(
        (base + rise) * y_span + y_low,
        base * y_span + y_low,
        middle * x_span + x_low,
        width * x_span,
    )


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line; slope 0 where x does not vary."""
    centred = x - x.mean()
    energy = float(np.dot(centred, centred))
    slope = float(np.dot(centred, y)) / energy if energy > 0 else 0.0
    return slope, float(y.mean()) - slope * float(x.mean())
