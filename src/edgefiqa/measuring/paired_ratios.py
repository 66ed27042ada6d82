"""Which of two interleaved files is faster, and how sure is that on a machine that drifts?

::

    sample ──median of a turn──▶ paired turn ratio ──median of a round──▶ round ratio ──▶ interval

In a turn all files run directly after each other, so that slow drift hits both alike; the next turn
has the reverse order, which takes out what is left of it, and the one after that draws a new order,
so that no file is always first, last or in the middle. Each round has fresh processes, so that
luck with memory addresses counts as the noise it is. The rounds are independent, and under
"no difference" each ratio is as likely above 1 as below by the same factor: the exact Wilcoxon
signed-rank interval of their logarithms needs nothing else, no normal noise and no equal variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefiqa.measuring.records import Figure, LatencyPhase, LatencyRecord

__all__ = ["CONFIDENCE", "PairedRatio", "fewest_rounds", "paired_ratios", "signed_rank_interval"]

CONFIDENCE = 0.99
"""Of the intervals; above 0.95, since a run compares several files."""


@dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """How much longer one file takes than another.

    Attributes:
        file: The file and its runtime.
        base: What it is compared with.
        threads: Threads of one inference, the same for both files.
        rounds: One ratio a round that both finished.
        ratio: Their centre (Hodges–Lehmann) with its interval; above 1 is slower.
        confidence: Confidence level of the interval.
    """

    file: str
    base: str
    threads: int
    rounds: tuple[float, ...]
    ratio: Figure
    confidence: float

    @property
    def verdict(self) -> str:
        """What the interval says: "slower", "faster", "no difference" or "not known"."""
        if self.ratio.low is None or self.ratio.high is None:
            return "not known"
        if self.ratio.low <= 1 <= self.ratio.high:
            return "no difference"
        return "slower" if self.ratio.low > 1 else "faster"


def _rank_sum_tail(n: int) -> NDArray[np.float64]:
    """Return ``P(W ≤ k)`` of the signed-rank sum of n values, for each k."""
    probabilities = np.zeros(n * (n + 1) // 2 + 1)
    probabilities[0] = 1
    for rank in range(1, n + 1):
        shifted = np.zeros_like(probabilities)
        shifted[rank:] = probabilities[:-rank]
        probabilities = (probabilities + shifted) / 2
    return probabilities.cumsum()


def fewest_rounds(confidence: float) -> int:
    """Return how many rounds an interval of this confidence needs."""
    n = 1
    while 2.0 ** (1 - n) > 1 - confidence:
        n += 1
    return n


def signed_rank_interval(
    values: Sequence[float] | NDArray[np.float64], *, confidence: float = CONFIDENCE
) -> Figure:
    """Return the Hodges–Lehmann centre with its exact interval.

    Args:
        values: Independent, each distributed symmetrically about the same centre.
        confidence: The interval's; it has at least this.

    Returns:
        The figure; without an interval where there are too few values for one.
    """
    n = len(values)
    if not n:
        return Figure(value=None, reason="no round that both finished")
    sample = np.asarray(values, np.float64)
    rows, columns = np.triu_indices(n)
    averages = np.sort((sample[rows] + sample[columns]) / 2)
    centre = float(np.median(averages))
    # Averages that may be cut off at each end: P(W ≤ cut − 1) ≤ (1 − confidence) / 2.
    cut = int(np.searchsorted(_rank_sum_tail(n), (1 - confidence) / 2 * (1 + 1e-9), side="right"))
    if not cut:
        reason = f"{n} rounds; {confidence:.0%} needs {fewest_rounds(confidence)}"
        return Figure(value=centre, reason=reason)
    return Figure(value=centre, low=float(averages[cut - 1]), high=float(averages[-cut]))


def _turn_medians(record: LatencyRecord) -> dict[tuple[int, int], float]:
    places = list(zip(record.rounds, record.turns, strict=True))
    samples: dict[tuple[int, int], list[float]] = {place: [] for place in places}
    for place, sample_ms in zip(places, record.samples_ms[LatencyPhase.INFERENCE], strict=True):
        samples[place].append(sample_ms)
    return {place: float(np.median(sample)) for place, sample in samples.items()}


def _round_logs(base: LatencyRecord, other: LatencyRecord) -> list[float]:
    before, after = _turn_medians(base), _turn_medians(other)
    logs: dict[int, list[float]] = {}
    for place in sorted(before.keys() & after.keys()):
        logs.setdefault(place[0], []).append(float(np.log(after[place] / before[place])))
    return [float(np.median(log)) for log in logs.values()]


def _ratio(base: LatencyRecord, other: LatencyRecord, confidence: float) -> PairedRatio:
    logs = _round_logs(base, other)
    figure = signed_rank_interval(logs, confidence=confidence)
    values = (figure.value, figure.low, figure.high)
    value, low, high = (
        None if logarithm is None else float(np.exp(logarithm)) for logarithm in values
    )
    return PairedRatio(
        file=other.executed.cell,
        base=base.executed.cell,
        threads=other.executed.threads,
        rounds=tuple(float(np.exp(log)) for log in logs),
        ratio=Figure(value=value, low=low, high=high, reason=figure.reason),
        confidence=confidence,
    )


def paired_ratios(
    records: Sequence[LatencyRecord], *, confidence: float = CONFIDENCE
) -> list[PairedRatio]:
    """Compare files that took turns with the first of them, at each number of threads.

    Args:
        records: Records of any runs; only records of one interleaved run on one device are paired.
        confidence: Confidence level of the intervals.

    Returns:
        One ratio a file and number of threads, the first file's left out.
    """
    groups: dict[tuple[str, str, int], list[LatencyRecord]] = {}
    for record in records:
        name = record.rules.interleaved
        if name is not None and record.turns:
            groups.setdefault((name, record.device, record.executed.threads), []).append(record)
    return [
        _ratio(base, other, confidence) for base, *others in groups.values() for other in others
    ]
