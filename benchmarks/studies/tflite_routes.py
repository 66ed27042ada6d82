"""Which of several ``.tflite`` files is faster, and by how much?

``python -m edgefiqa.benchmarks.studies.tflite_routes A.tflite B.tflite`` runs the files in turn
(A B A B …), each time in a fresh process, so that what else the machine does hits all alike. The
ratios are paired: each round's median against the first file's median of the same round.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of, write_text

__all__ = ["measure_routes"]

_WARM_UP = 5


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


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


def _cell_in_process(path: Path, threads: int, runs: int) -> list[float]:
    command = [sys.executable, "-m", __spec__.name, "--cell", str(path)]
    command += ["--threads", str(threads), "--runs", str(runs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    samples_ms: list[float] = json.loads(done.stdout)
    return samples_ms


def measure_routes(
    paths: list[Path], *, threads: int = 1, rounds: int = 5, runs: int = 40
) -> dict[str, Any]:
    """Measure files against the first one, interleaved, one process a cell.

    Args:
        paths: Two or more ``.tflite`` files.
        threads: Threads of the interpreter.
        rounds: How often each file is measured.
        runs: Inferences a round.

    Returns:
        A record with each file's sha256, medians, 90th percentile, ratios and raw samples.

    Raises:
        UsageError: If there are fewer than two files.
    """
    if len(paths) < 2:
        raise UsageError("there is nothing to compare", value=len(paths), allowed="two files")
    hashes = [sha256_of(path) for path in paths]
    samples: list[list[list[float]]] = [[] for _ in paths]
    for _ in range(rounds):
        for cells, path in zip(samples, paths, strict=True):
            cells.append(_cell_in_process(path, threads, runs))
    medians = [[statistics.median(cell) for cell in cells] for cells in samples]
    files = [
        {
            "file": path.name,
            "sha256": digest,
            "median_ms": statistics.median(own),
            "p90_ms": float(np.percentile(np.concatenate(cells), 90)),
            "round_medians_ms": own,
            "paired_ratios": [b / a for a, b in zip(medians[0], own, strict=True)],
            "samples_ms": cells,
        }
        for path, digest, own, cells in zip(paths, hashes, medians, samples, strict=True)
    ]
    return {
        "measurement": "tflite_routes",
        "schema_version": 1,
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "processor": _processor(),
        "threads": threads,
        "rounds": rounds,
        "runs": runs,
        "files": files,
    }


def _table(record: dict[str, Any]) -> Table:
    table = Table(title=f"{record['runtime']}, {record['threads']} thread(s)")
    for column in ("file", "sha256", "median ms", "p90 ms", "ratio (min to max)"):
        table.add_column(column, overflow="fold")
    for row in record["files"]:
        ratios = row["paired_ratios"]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        times = (f"{row['median_ms']:.2f}", f"{row['p90_ms']:.2f}")
        table.add_row(row["file"], row["sha256"][:12], *times, spread)
    return table


def main(
    paths: Annotated[list[Path], typer.Argument(help=".tflite files; the first is the base.")],
    threads: Annotated[int, typer.Option(min=1)] = 1,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    runs: Annotated[int, typer.Option(min=1, help="Inferences a round.")] = 40,
    out: Annotated[Path | None, typer.Option(help="Write the JSON record here.")] = None,
    cell: Annotated[bool, typer.Option("--cell", hidden=True)] = False,
) -> None:
    """Compare ``.tflite`` files: a table on stderr, the JSON record on stdout or in a file."""
    if cell:
        typer.echo(json.dumps(_measure_cell(paths[0], threads, runs)))
        return
    record = measure_routes(paths, threads=threads, rounds=rounds, runs=runs)
    Console(stderr=True).print(_table(record))
    if out:
        write_text(out, json.dumps(record, indent=2) + "\n")
    else:
        typer.echo(json.dumps(record, indent=2))


if __name__ == "__main__":
    typer.run(main)
