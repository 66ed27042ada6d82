"""The process of one cell in which files named ``slowed`` take 10 % longer.

``python -m edgefiqa.benchmarks.studies.slowed_process SETTINGS`` runs the product's process of
a cell and wraps what ``load`` returns there; what is measured otherwise, and how, is the product's.
"""

import statistics
import sys
import time
from collections import deque
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.latency import process as latency_process
from edgefiqa.runtimes import Scorer, load

__all__ = ["SLOWDOWN", "SLOWED", "SlowedScorer", "main"]

SLOWDOWN = 0.10
SLOWED = "slowed"
"""Stem of the file names that are slowed."""

_LATELY = 25


class SlowedScorer:
    """A scorer whose every call takes 10 % more of the processor, with one thread.

    Args:
        scorer: What computes the scores.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.runtime, self.size = scorer.runtime, scorer.size
        self._scorer = scorer
        # The median of the last few: the 10 % stay 10 % while the machine drifts. Processor time:
        # a wait by the clock would grow with what other processes take.
        self._lately_s: deque[float] = deque(maxlen=_LATELY)

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images, then spin; see ``Scorer.score``."""
        start = time.thread_time()
        scores = self._scorer.score(images)
        end = time.thread_time()
        self._lately_s.append(end - start)
        until = end + SLOWDOWN * statistics.median(self._lately_s)
        while time.thread_time() < until:
            pass
        return scores


def main() -> int:
    """Be the process of one cell."""

    def load_slowed(path: Path, *, runtime: str, threads: int) -> Scorer:
        scorer = load(path, runtime=runtime, threads=threads)
        return SlowedScorer(scorer) if path.stem == SLOWED else scorer

    with mock.patch.object(latency_process, "load", load_slowed):
        return latency_process.main()


if __name__ == "__main__":
    sys.exit(main())
