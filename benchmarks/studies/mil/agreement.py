"""Compare the MIL reference evaluator with torch on photographs.

    python scripts/mil_agreement.py MODEL PACKAGE… --faces FOLDER [--count 200]

MODEL is "default" or a model directory, each PACKAGE an ``.mlpackage`` of it. They run in turns on
one thread; times are medians of processor time.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgefiqa.models import load_model
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes.mil_reference import MilReferenceScorer
from edgefiqa.runtimes.torch import score_with_torch

_WARM_UP = 2


def compare(network: nn.Module, packages: list[Path], photographs: list[Path]) -> None:
    """Print the distance to torch's score, and the time, of each package."""
    scorers = [MilReferenceScorer(path, threads=1) for path in packages]
    scores = np.empty((1 + len(scorers), len(photographs)))
    times = np.empty_like(scores)
    for column, photograph in enumerate(photographs):
        tensor = load_tensor(photograph, scorers[0].size)
        calls = [lambda x: score_with_torch(network, x), *(scorer.score for scorer in scorers)]
        for row, call in enumerate(calls):
            start = time.process_time()
            scores[row, column] = call(tensor)[0]
            times[row, column] = time.process_time() - start
    medians = [statistics.median(row[_WARM_UP:]) for row in times]
    low, high, spread = scores[0].min(), scores[0].max(), scores[0].std()
    print(f"torch: {len(photographs)} photographs score {low:.3f} to {high:.3f}", end=", ")
    print(f"standard deviation {spread:.3f}; {medians[0] * 1e3:.1f} ms")
    for path, row, median in zip(packages, scores[1:], medians[1:], strict=True):
        errors = np.abs(row - scores[0])
        print(
            f"{path.name}: max {errors.max():.1e} ({errors.max() / spread:.1e} of the standard "
            f"deviation), mean {errors.mean():.1e}; "
            f"{median * 1e3:.1f} ms, {median / medians[0]:.2f} × torch"
        )
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kB here
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    print(f"{scorers[0].runtime}; peak memory of the whole comparison {peak:.0f} MB")


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description="the MIL reference evaluator against torch")
    parser.add_argument("model")
    parser.add_argument("packages", nargs="+", type=Path)
    parser.add_argument("--faces", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    found = sorted(options.faces.rglob("*.jpg"))
    if len(found) < options.count or options.count <= _WARM_UP:
        sys.exit(f"error: {options.faces} holds {len(found)} photographs, {options.count} asked")
    torch.set_num_threads(1)
    network, _ = load_model(options.model)
    chosen = np.linspace(0, len(found) - 1, options.count).astype(int)
    compare(network, options.packages, [found[index] for index in chosen])


if __name__ == "__main__":
    main()
