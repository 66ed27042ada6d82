"""The figures of a scorer against a reference and against labels, on all resamples at once.

Correlations and errors come in three families: to the labels (``*_labels``, and the reference's
as ``reference_*``), the difference of the two (``delta_*``, paired: both on the same resample), and
to the reference itself. A correlation forgives any shift or stretch of the scores; a threshold in
an app does not, so the shift (``bias``, ``scale``, ``offset``) and the decisions that change
(``flip*``) stand beside it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgefiqa.measuring.records import Figure
from edgefiqa.measuring.resampling import (
    Ranked,
    draw_weights,
    weighted_kendall,
    weighted_mean,
    weighted_pearson,
    weighted_quantile,
    weighted_spearman,
)

__all__ = [
    "FEWEST_FOR_P99",
    "FIGURES",
    "Better",
    "FigureKind",
    "PairedScores",
    "interval_of",
    "measure_figures",
]

Array = NDArray[np.float64]

FEWEST_FOR_P99 = 500
"""Images from which p99 has an interval: five of them lie above it."""

_KRCC_ROWS = 3000  # above: a matrix of rows × rows for every block of resamples takes minutes


class Better(StrEnum):
    """Which way a figure improves."""

    HIGHER = "higher"
    LOWER = "lower"
    ZERO = "nearer to zero"
    ONE = "nearer to one"


@dataclass(frozen=True)
class FigureKind:
    """What a figure is.

    Args:
        title: For tables.
        better: Which way it improves.
        no_interval: Why it has no interval; empty if it has one.
    """

    title: str
    better: Better
    no_interval: str = ""


_COUNT = "a count; flip_rate has the interval"
_MAXIMUM = "the bootstrap of a maximum is not valid; p99_error has an interval"

FIGURES: Mapping[str, FigureKind] = MappingProxyType(
    {
        "srcc_labels": FigureKind("SRCC to labels", Better.HIGHER),
        "plcc_labels": FigureKind("PLCC to labels", Better.HIGHER),
        "krcc_labels": FigureKind("KRCC to labels", Better.HIGHER),
        "rmse_labels": FigureKind("RMSE to labels", Better.LOWER),
        "reference_srcc_labels": FigureKind("float SRCC to labels", Better.HIGHER),
        "reference_plcc_labels": FigureKind("float PLCC to labels", Better.HIGHER),
        "reference_krcc_labels": FigureKind("float KRCC to labels", Better.HIGHER),
        "reference_rmse_labels": FigureKind("float RMSE to labels", Better.LOWER),
        "delta_srcc": FigureKind("ΔSRCC", Better.HIGHER),
        "delta_plcc": FigureKind("ΔPLCC", Better.HIGHER),
        "delta_krcc": FigureKind("ΔKRCC", Better.HIGHER),
        "delta_rmse": FigureKind("ΔRMSE", Better.LOWER),
        "srcc_reference": FigureKind("SRCC to float", Better.HIGHER),
        "plcc_reference": FigureKind("PLCC to float", Better.HIGHER),
        "krcc_reference": FigureKind("KRCC to float", Better.HIGHER),
        "rmse_reference": FigureKind("RMSE to float", Better.LOWER),
        "bias": FigureKind("bias", Better.ZERO),
        "scale": FigureKind("scale", Better.ONE),
        "offset": FigureKind("offset", Better.ZERO),
        "mean_error": FigureKind("mean |Δ|", Better.LOWER),
        "p99_error": FigureKind("p99 |Δ|", Better.LOWER),
        "max_error": FigureKind("max |Δ|", Better.LOWER, _MAXIMUM),
        "flip_rate": FigureKind("flip rate", Better.LOWER),
        "flips": FigureKind("flips", Better.LOWER, _COUNT),
        "flips_to_accept": FigureKind("flips to accept", Better.LOWER, _COUNT),
        "flips_to_reject": FigureKind("flips to reject", Better.LOWER, _COUNT),
    }
)

_FAMILY: Mapping[str, Callable[[Ranked, Ranked, Array], Array]] = MappingProxyType(
    {"srcc": weighted_spearman, "plcc": weighted_pearson, "krcc": weighted_kendall}
)


class PairedScores:
    """A file's scores and the reference's, image by image, ready to be resampled.

    Args:
        scores: The file's ``[n]``.
        reference: The reference's ``[n]``.
        labels: ``[n]``, nan where an image has none.
        threshold: A score of at least this is accepted; None counts no flips.
    """

    def __init__(
        self, scores: Array, reference: Array, labels: Array, *, threshold: float | None
    ) -> None:
        self.n = len(scores)
        self.error = np.asarray(scores - reference)
        self._scores, self._reference = Ranked(scores), Ranked(reference)
        self._size = Ranked(np.abs(self.error))
        self._labelled = np.isfinite(labels)
        ranked, other = (Ranked(values[self._labelled]) for values in (scores, reference))
        self._on_labels = (ranked, other, Ranked(labels[self._labelled]))
        self._flips: tuple[Array, Array] | None = None
        if threshold is not None:
            now, then = scores >= threshold, reference >= threshold
            self._flips = ((now & ~then).astype(np.float64), (then & ~now).astype(np.float64))

    @property
    def n_labelled(self) -> int:
        """Images with a label."""
        return int(self._labelled.sum())

    def on(self, weights: Array, *, with_krcc: bool) -> dict[str, Array]:
        """Compute every figure on every resample.

        Args:
            weights: ``[B, n]``, how often each row was drawn.
            with_krcc: Whether to compute Kendall's correlation, by far the slowest.

        Returns:
            Name to ``[B]``, nan where a figure is undefined; figures that cannot be defined on
            these images at all are left out.
        """
        found = self._errors(weights) | self._affine(weights)
        for name, correlate in _FAMILY.items():
            if name != "krcc" or with_krcc:
                found[f"{name}_reference"] = correlate(self._scores, self._reference, weights)
        if self.n_labelled:
            found |= self._agreement(weights[:, self._labelled], with_krcc=with_krcc)
        if self._flips:
            accept, reject = (weights @ flips for flips in self._flips)
            found |= {"flips": accept + reject, "flips_to_accept": accept}
            found["flips_to_reject"] = reject
            found["flip_rate"] = (accept + reject) / weights.sum(axis=1)
        return found

    def _errors(self, weights: Array) -> dict[str, Array]:
        drawn = np.where(weights > 0, self._size.values, -math.inf)
        return {
            "bias": weighted_mean(self.error, weights),
            "mean_error": weighted_mean(self._size.values, weights),
            "rmse_reference": np.sqrt(weighted_mean(self.error**2, weights)),
            "p99_error": weighted_quantile(self._size, 0.99, weights),
            "max_error": drawn.max(axis=1),
        }

    def _affine(self, weights: Array) -> dict[str, Array]:
        """Fit score ≈ scale · reference + offset by least squares."""
        x, y = self._reference.centred, self._scores.centred
        mean_x, mean_y = weighted_mean(x, weights), weighted_mean(y, weights)
        variance = weighted_mean(x * x, weights) - mean_x**2
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = (weighted_mean(x * y, weights) - mean_x * mean_y) / variance
        scale = np.where(self._reference.is_constant(weights), math.nan, scale)
        shift_x = self._reference.values.mean() + mean_x
        return {"scale": scale, "offset": self._scores.values.mean() + mean_y - scale * shift_x}

    def _agreement(self, weights: Array, *, with_krcc: bool) -> dict[str, Array]:
        scores, other, labels = self._on_labels
        found = {}
        for name, correlate in _FAMILY.items():
            if name != "krcc" or with_krcc:
                found[f"{name}_labels"] = correlate(scores, labels, weights)
                found[f"reference_{name}_labels"] = correlate(other, labels, weights)
        for prefix, values in (("", scores), ("reference_", other)):
            squares = (values.values - labels.values) ** 2
            found[f"{prefix}rmse_labels"] = np.sqrt(weighted_mean(squares, weights))
        for name in ("srcc", "plcc", "krcc", "rmse"):
            if f"{name}_labels" in found:
                found[f"delta_{name}"] = found[f"{name}_labels"] - found[f"reference_{name}_labels"]
        return found

    def why_undefined(self, name: str) -> str:
        """Return the reason why a figure has no value on all rows."""
        if name.startswith("flip"):
            return "no decision threshold was given"
        scores, other, labels = self._scores, self._reference, None
        needed = self.n
        if name.endswith("_labels") or name.startswith("delta_"):
            needed = self.n_labelled
            if not needed:
                return "the images have no labels"
            scores, other, labels = self._on_labels
        if needed < 2:
            return "a correlation needs two images or more"
        if np.ptp(scores.values) == 0 and not name.startswith(("reference_", "scale", "offset")):
            constant = "all scores are the same"
        elif np.ptp(other.values) == 0:
            constant = "all scores of the reference are the same"
        elif labels is not None and np.ptp(labels.values) == 0:
            constant = "all labels are the same"
        else:
            constant = "not computed for a slice; see the figure on all images"
        return constant


def interval_of(
    samples: Array, value: float | None, *, confidence: float, reason: str = ""
) -> Figure:
    """Make a figure of its value and its resamples.

    Args:
        samples: The figure on each resample, nan where undefined; empty if there are none.
        value: On all rows; None where it is undefined.
        confidence: Share of the resamples inside.
        reason: Why the value or the interval is missing, as far as known.
    """
    defined = samples[np.isfinite(samples)]
    undefined = len(samples) - len(defined)
    if value is None or reason or not defined.size:
        reason = reason or "undefined on every resample"
        return Figure(value=value, n_undefined=undefined, reason=reason)
    tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
    low, high = (float(end) for end in np.quantile(defined, tails))
    return Figure(value=value, low=low, high=high, n_undefined=undefined)


def measure_figures(
    pairs: PairedScores,
    clusters: Iterable[str],
    *,
    resamples: int,
    seed: int = 0,
    confidence: float = 0.95,
    with_krcc: bool = True,
) -> dict[str, Figure]:
    """Compute every figure with its percentile bootstrap interval over whole clusters.

    Args:
        pairs: The scores.
        clusters: The cluster of each row; rows of one cluster are not independent.
        resamples: How many.
        seed: Seed of the resampling.
        confidence: Confidence level of the intervals.
        with_krcc: Whether Kendall's correlation is wanted.

    Returns:
        One figure a name of ``FIGURES``; what is undefined says why.
    """
    units = list(clusters)
    if not pairs.n:
        why = "no image was scored by both"
        return {name: Figure(value=None, reason=why) for name in FIGURES}
    point = pairs.on(np.ones((1, pairs.n)), with_krcc=with_krcc)
    lonely = len(set(units)) < 2
    samples: dict[str, list[Array]] = {name: [] for name in point}
    if not lonely:
        krcc = with_krcc and pairs.n <= _KRCC_ROWS
        for weights in draw_weights(units, n=resamples, seed=seed):
            for name, values in pairs.on(weights, with_krcc=krcc).items():
                samples[name].append(values)
    figures = {}
    for name, kind in FIGURES.items():
        value = float(point[name][0]) if name in point else math.nan
        if not math.isfinite(value):
            figures[name] = Figure(value=None, reason=pairs.why_undefined(name))
            continue
        reason = kind.no_interval or ("an interval needs two clusters or more" if lonely else "")
        if name == "p99_error" and pairs.n < FEWEST_FOR_P99:
            reason = f"the bootstrap of a 99th percentile needs {FEWEST_FOR_P99} images or more"
        if not reason and not samples[name]:
            reason = f"no interval for Kendall's correlation above {_KRCC_ROWS} images"
        drawn = np.concatenate(samples[name]) if samples[name] else np.empty(0)
        figures[name] = interval_of(drawn, value, confidence=confidence, reason=reason)
    return figures
