"""Scoring golden tensors with one file, here or on an emulated processor.

``python -m edgefiqa.benchmarks.arm.score_process MODEL TENSORS`` needs numpy and the file's
runtime; it prints one line of JSON: ``sha256`` of what it executed, ``runtime``, ``scores``.
"""

import json
import sys
from pathlib import Path

import numpy as np

from edgefiqa.files import sha256_of
from edgefiqa.runtimes import load

__all__ = ["main"]


def main(model: Path, tensors: Path) -> None:
    """Score tensors and print the answer as the last line of standard output.

    Args:
        model: A scorer file.
        tensors: The raw bytes of uint8 ``[n, S, S, 3]``, S being the model's.

    Raises:
        EdgeFiqaError: The file is damaged, or its runtime is not installed.
    """
    digest = sha256_of(model)
    scorer = load(model, threads=1)
    images = np.fromfile(tensors, np.uint8).reshape(-1, scorer.size, scorer.size, 3)
    scores = [float(score) for score in scorer.score(images)]
    answer = {"sha256": digest, "runtime": scorer.runtime, "scores": scores}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
