"""How big is a ``[tflite]`` installation, and how long does it take until the first score?

``edgefiqa study startup MODEL.tflite PHOTO`` makes a fresh virtual environment, installs this
checkout with the extra ``tflite`` and times the whole command ``edgefiqa score``, several times.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edgefiqa.benchmarks.studies.records import StartupRecord
from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import sha256_of, size_of
from edgefiqa.manifest import parent_of

__all__ = ["measure_startup"]

_ROOT = Path(__file__).resolve().parents[2]


def measure_startup(
    model: Path, photo: Path, *, runs: int = 10, tell: Callable[[str], object] = lambda _: None
) -> StartupRecord:
    """Measure the size of an installation and the time of a command.

    Args:
        model: A ``.tflite`` file.
        photo: A photograph.
        runs: Counted runs, after one that is not.
        tell: Told what is being done.

    Raises:
        ArtifactError: If the file is not the one that the manifest beside it names.
        EdgeFiqaError: If the installation or the command fails.
    """
    parent, digest = parent_of(model), sha256_of(model)
    with tempfile.TemporaryDirectory() as scratch:
        environment = Path(scratch) / "venv"
        tell("installing edgefiqa[tflite] into an empty environment")
        installed = _install(environment)
        tell(f"scoring {runs + 1} times")
        program = environment / "bin" / "edgefiqa"
        command: list[str | Path] = [program, "score", "--json", "--model", model, photo]
        seconds = [_seconds_of(command) for _ in range(runs + 1)][1:]
        packages = _packages(environment)
    return StartupRecord(
        sha256=digest,
        parent_sha256=parent,
        installed_mb=round(installed / 1e6, 1),
        packages=packages,
        runs=runs,
        seconds=tuple(round(value, 4) for value in seconds),
        median_seconds=round(statistics.median(seconds), 4),
        max_seconds=round(max(seconds), 4),
    )


def _install(environment: Path) -> int:
    """Make an environment and install the package; return the bytes that this adds."""
    _run([sys.executable, "-m", "venv", environment])
    before = size_of(environment)
    _run([environment / "bin" / "python", "-m", "pip", "install", "-q", f"{_ROOT}[tflite]"])
    return size_of(environment) - before


def _packages(environment: Path) -> dict[str, str]:
    listed = _run([environment / "bin" / "python", "-m", "pip", "list", "--format", "json"])
    return {row["name"]: row["version"] for row in json.loads(listed)}


def _seconds_of(command: list[str | Path]) -> float:
    start = time.perf_counter()
    _run(command)
    return time.perf_counter() - start


def _run(command: list[str | Path]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        called = " ".join(map(str, command))
        raise EdgeFiqaError(f"a command failed ({done.stderr.strip()[-500:]})", value=called)
    return done.stdout
