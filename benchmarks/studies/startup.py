"""How big is a scorer's installation, and how long from process start to the first score?

``python -m edgefiqa.benchmarks.studies.startup student.tflite photo.jpg`` makes an empty virtual
environment, installs edgefiqa with the extra ``tflite`` from this checkout (pip must reach a
package index), and times the whole command, several times.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.files import sha256_of, size_of

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[2]


def main(
    model: Annotated[Path, typer.Argument(help="A .tflite file.")],
    photo: Annotated[Path, typer.Argument(help="A photograph.")],
    runs: Annotated[int, typer.Option(min=1, help="Counted runs, after one that is not.")] = 10,
) -> None:
    """Measure installation size and start-up time; prints one JSON record."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "venv"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        python = environment / "bin" / "python"
        before = size_of(environment)
        subprocess.run([python, "-m", "pip", "install", "-q", f"{_ROOT}[tflite]"], check=True)
        installed = size_of(environment) - before
        program = str(environment / "bin" / "edgefiqa")
        command = [program, "score", "--json", "--model", str(model), str(photo)]
        seconds = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"],
            check=True,
            capture_output=True,
            text=True,
        )
    counted = seconds[1:]
    record = {
        "measurement": "startup",
        "sha256": sha256_of(model),
        "installed_mb": round(installed / 1e6, 1),
        "packages": {row["name"]: row["version"] for row in json.loads(listed.stdout)},
        "runs": runs,
        "seconds": [round(value, 4) for value in counted],
        "median_seconds": round(statistics.median(counted), 4),
        "max_seconds": round(max(counted), 4),
    }
    typer.echo(json.dumps(record, indent=2))


if __name__ == "__main__":
    typer.run(main)
