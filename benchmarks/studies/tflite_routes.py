"""Which of several ``.tflite`` files is faster, and by how much?

``edgefiqa study tflite-routes A.tflite B.tflite`` runs the files in turn (A B A B …), each time in
a fresh process, so that what else the machine does hits all alike. The ratios are paired: each
round's median against the first file's median of the same round.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgefiqa.benchmarks.studies.records import RouteFile, RoutesRecord
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import parent_of
from edgefiqa.measuring.machine import processor_name

__all__ = ["measure_routes"]

_WARM_UP = 5


def _measure_cell(path: Path, threads: int, runs: int) -> list[float]:
    """Time inferences of one random image, in this process.

    Returns:
        Milliseconds of each, without the warm-up.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    image = np.random.default_rng(0).integers(0, 256, entry["shape"]).astype(entry["dtype"])
    interpreter.set_tensor(entry["index"], image)
    samples_ms = []
    for _ in range(_WARM_UP + runs):
        start = time.perf_counter()
        interpreter.invoke()
        samples_ms.append(1e3 * (time.perf_counter() - start))
    return samples_ms[_WARM_UP:]


def measure_routes(
    paths: Sequence[Path],
    *,
    threads: int = 1,
    rounds: int = 5,
    runs: int = 40,
    on_round: Callable[[int], object] = lambda _: None,
) -> RoutesRecord:
    """Measure files against the first one, interleaved, one process a cell.

    Args:
        paths: Two or more ``.tflite`` files.
        threads: Threads of the interpreter.
        rounds: How often each file is measured.
        runs: Inferences a round.
        on_round: Told the number of rounds that are done.

    Returns:
        Each file's sha256, medians, 90th percentile, ratios and raw samples.

    Raises:
        ArtifactError: If a file is not the one that the manifest beside it names.
        UsageError: If there are fewer than two files.
    """
    if len(paths) < 2:
        raise UsageError("there is nothing to compare", value=len(paths), allowed="two files")
    hashes = [sha256_of(path) for path in paths]
    samples: list[list[list[float]]] = [[] for _ in paths]
    for number in range(rounds):
        for cells, path in zip(samples, paths, strict=True):
            cells.append(call_isolated(None, _measure_cell, path, threads, runs))
        on_round(number + 1)
    base = [statistics.median(cell) for cell in samples[0]]
    rows = zip(paths, hashes, samples, strict=True)
    return RoutesRecord(
        parent_sha256=parent_of(paths[0]),
        runtime=f"ai-edge-litert {version('ai-edge-litert')}",
        processor=processor_name(),
        threads=threads,
        rounds=rounds,
        runs=runs,
        files=tuple(_describe(path, digest, cells, base) for path, digest, cells in rows),
    )


def _describe(path: Path, digest: str, cells: list[list[float]], base: list[float]) -> RouteFile:
    medians = [statistics.median(cell) for cell in cells]
    return RouteFile(
        file=path.name,
        sha256=digest,
        median_ms=statistics.median(medians),
        p90_ms=float(np.percentile(np.concatenate(cells), 90)),
        round_medians_ms=tuple(medians),
        paired_ratios=tuple(b / a for a, b in zip(base, medians, strict=True)),
        samples_ms=tuple(tuple(cell) for cell in cells),
    )
