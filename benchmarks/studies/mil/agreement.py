"""The MIL reference evaluator beside torch on photographs.

``edgefiqa study mil-agreement MODEL PACKAGE… --photos FOLDER`` scores photographs with a model and
with ``.mlpackage`` files of it, in turns on one thread; times are medians of processor time.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgefiqa.benchmarks.studies.mil.records import AgreementRecord, PackageAgreement
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.models import load_model
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes.mil_reference import MilReferenceScorer
from edgefiqa.runtimes.torch import score_with_torch

__all__ = ["measure_mil_agreement"]

_WARM_UP = 2


def measure_mil_agreement(
    model: str,
    packages: Sequence[Path],
    photographs: Sequence[Path],
    *,
    on_photo: Callable[[int], object] = lambda _: None,
) -> AgreementRecord:
    """Measure each package's distance to torch's score, and its time.

    Args:
        model: "default" or a model directory.
        packages: ``.mlpackage`` files of the same weights.
        photographs: More than the two that warm up.
        on_photo: Told the number of photographs that are done.

    Raises:
        UsageError: There are too few photographs.
    """
    if len(photographs) <= _WARM_UP:
        allowed = f"{_WARM_UP + 1} or more"
        raise UsageError("too few photographs", value=len(photographs), allowed=allowed)
    torch.set_num_threads(1)
    network, card = load_model(model)
    scorers = [MilReferenceScorer(path, threads=1) for path in packages]
    scores = np.empty((1 + len(scorers), len(photographs)))
    seconds = np.empty_like(scores)
    for column, photograph in enumerate(photographs):
        tensor = load_tensor(photograph, scorers[0].size)
        calls = [lambda x: score_with_torch(network, x), *(scorer.score for scorer in scorers)]
        for row, call in enumerate(calls):
            start = time.process_time()
            scores[row, column] = call(tensor)[0]
            seconds[row, column] = time.process_time() - start
        on_photo(column + 1)
    times_ms = [1e3 * statistics.median(row[_WARM_UP:]) for row in seconds]
    return AgreementRecord(
        parent_sha256=card.sha256,
        runtime=scorers[0].runtime,
        images=len(photographs),
        lowest=float(scores[0].min()),
        highest=float(scores[0].max()),
        deviation=float(scores[0].std()),
        torch_ms=times_ms[0],
        peak_bytes=_peak_bytes(),
        packages=tuple(
            _describe(path, row - scores[0], time_ms)
            for path, row, time_ms in zip(packages, scores[1:], times_ms[1:], strict=True)
        ),
    )


def _describe(path: Path, errors: NDArray[np.float64], time_ms: float) -> PackageAgreement:
    return PackageAgreement(
        file=path.name,
        sha256=sha256_of(path),
        max_abs_error=float(np.abs(errors).max()),
        mean_abs_error=float(np.abs(errors).mean()),
        median_ms=time_ms,
    )


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
