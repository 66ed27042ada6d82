"""Latency records as a table: percentiles, and each file beside the float file of its format."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgefiqa.benchmarks.latency.summary import Spread, summarise
from edgefiqa.measuring.paired_ratios import PairedRatio, paired_ratios
from edgefiqa.measuring.records import LatencyPhase, LatencyRecord

__all__ = ["LatencyRow", "latency_rows", "ratio_text", "times_ms"]

_FLOAT = "fp32"


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One file on one device with one number of threads.

    Attributes:
        record: What was measured.
        inference: Times of one inference.
        ratio: To the float file of its format that took turns with it; None for that file itself,
            and where there is none.
    """

    record: LatencyRecord
    inference: Spread
    ratio: PairedRatio | None


def latency_rows(records: Sequence[LatencyRecord]) -> list[LatencyRow]:
    """Compare each file with the float file of its format, by the rounds that both finished.

    The base is the fp32 file of the same target, the one that a quantised file was made beside; for
    another fp32 file of the format it is the first one.

    Args:
        records: Records of any runs and devices.

    Returns:
        One row a record that has samples, formats together and float files first.
    """
    timed = [record for record in records if record.samples_ms.get(LatencyPhase.INFERENCE)]
    timed.sort(key=_order)
    rows = []
    for candidate in timed:
        base = _float_base(candidate, timed)
        ratios = paired_ratios([base, candidate]) if base is not None else []
        rows.append(
            LatencyRow(
                record=candidate,
                inference=summarise(candidate.samples_ms[LatencyPhase.INFERENCE]),
                ratio=ratios[0] if ratios else None,
            )
        )
    return rows


def _order(record: LatencyRecord) -> tuple[str, str, int, bool, str]:
    ran = record.executed
    return record.device, ran.format, ran.threads, ran.precision != _FLOAT, ran.file


def _float_base(record: LatencyRecord, records: Sequence[LatencyRecord]) -> LatencyRecord | None:
    if record.rules.interleaved is None:
        return None
    floats = [
        other
        for other in records
        if other.executed.precision == _FLOAT and _turns_of(other) == _turns_of(record)
    ]
    same = [other for other in floats if other.executed.target == record.executed.target]
    base = next(iter(same if record not in same else floats), None)
    return None if base is record else base


def _turns_of(record: LatencyRecord) -> tuple[str | None, str, str, str, int]:
    ran = record.executed
    return record.rules.interleaved, record.device, ran.format, ran.runtime, ran.threads


def ratio_text(ratio: PairedRatio | None) -> str:
    """Format a ratio with its interval; a dash where there is none."""
    if ratio is None or ratio.ratio.value is None:
        return "–"
    low, high = ratio.ratio.low, ratio.ratio.high
    interval = "no interval" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
    return f"{ratio.ratio.value:.3f} {interval}"


def times_ms(row: LatencyRow) -> list[str]:
    """Return p50, p90, p99, mean, IQR, load and first inference of a row, in milliseconds."""
    inference = row.inference
    values = [
        inference.p50_ms,
        inference.p90_ms,
        inference.p99_ms,
        inference.mean_ms,
        inference.iqr_ms,
    ]
    texts = [f"{value:.2f}" for value in values]
    for phase in (LatencyPhase.LOAD, LatencyPhase.FIRST):
        samples = row.record.samples_ms.get(phase)
        texts.append(f"{np.median(samples):.1f}" if samples else "–")
    return texts
