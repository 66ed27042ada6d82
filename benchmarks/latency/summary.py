"""Latency samples in a few numbers, for a table and for ``latency_summary.json``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgefiqa.errors import UsageError
from edgefiqa.measuring.paired_ratios import PairedRatio
from edgefiqa.measuring.records import FailureRecord, LatencyRecord

__all__ = ["LatencyOutcome", "Spread", "summarise", "summary_text"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Samples in a few numbers; none was left out.

    Attributes:
        n: How many.
        mean_ms: Mean.
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        iqr_ms: 75th percentile less the 25th.
    """

    n: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    iqr_ms: float


@dataclass(frozen=True, kw_only=True)
class LatencyOutcome:
    """What a run gave.

    Attributes:
        records: Records of the cells that finished.
        failures: One for each file and runtime that did not finish.
        ratios: Against the first file, at each number of threads.
    """

    records: tuple[LatencyRecord, ...]
    failures: tuple[FailureRecord, ...]
    ratios: tuple[PairedRatio, ...]

    @property
    def noise(self) -> list[str]:
        """What all cells share, then what concerns one cell."""
        if not self.records:
            return []
        phrases = [record.noise.split("; ") if record.noise else [] for record in self.records]
        shared = [phrase for phrase in phrases[0] if all(phrase in said for said in phrases[1:])]
        return shared + [
            f"{record.executed.cell}, threads {record.executed.threads}: {phrase}"
            for record, said in zip(self.records, phrases, strict=True)
            for phrase in said
            if phrase not in shared
        ]


def summarise(samples_ms: Sequence[float]) -> Spread:
    """Summarise one phase's samples; percentiles interpolate linearly.

    Raises:
        UsageError: If there is none.
    """
    if not len(samples_ms):
        raise UsageError("there is no sample to summarise", value=0, allowed="1 or more")
    low, middle, high, p90, p99 = map(float, np.percentile(samples_ms, (25, 50, 75, 90, 99)))
    return Spread(
        n=len(samples_ms),
        mean_ms=float(np.mean(samples_ms)),
        p50_ms=middle,
        p90_ms=p90,
        p99_ms=p99,
        iqr_ms=high - low,
    )


def summary_text(outcome: LatencyOutcome, others: float | None) -> str:
    """Return the summary of a run as JSON.

    Args:
        outcome: What the run gave.
        others: The share of the machine that other processes used; None if unknown.
    """
    cells = [
        {
            "cell": record.executed.cell,
            "sha256": record.executed.sha256,
            "twins": [twin.file for twin in record.executed.twins],
            "threads": record.executed.threads,
            "phases": {phase: vars(summarise(ms)) for phase, ms in record.samples_ms.items()},
            "peak_rss_bytes": record.peak_rss_bytes,
            "baseline_rss_bytes": record.baseline_rss_bytes,
            "noise": record.noise,
        }
        for record in outcome.records
    ]
    ratios = [
        vars(ratio) | {"ratio": ratio.ratio.model_dump(), "verdict": ratio.verdict}
        for ratio in outcome.ratios
    ]
    failures = [{"cell": failure.cell, "error": failure.error} for failure in outcome.failures]
    content = {"others_share": others, "cells": cells, "ratios": ratios, "failures": failures}
    return json.dumps(content, indent=1) + "\n"
