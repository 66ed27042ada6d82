"""The process of one latency cell: one file in one runtime with one number of threads.

::

    arguments   one JSON object: path, runtime, threads, photos, warm_up, turn_warm_up
    ready    ◀─ load and first inference, after the library's import
    turn     ─▶ how many samples at least, how many seconds at least, how many photographs
    samples  ◀─ of each phase; and the processor time used: while others had their turn, in all
    finish   ─▶
    end      ◀─ peak memory, and the hash of the file again

Messages are lines of JSON. Between them the process waits in a read; libraries that would spin
meanwhile are told not to before they are loaded. The process may be on another machine: then what
is imported here, and nothing else of edgefiqa, is sent there (see ``targets/remote_bundle.py``).
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import sha256_of
from edgefiqa.preprocess import open_photo, resize_and_crop, to_rgb
from edgefiqa.runtimes import RUNTIMES, Scorer, load
from edgefiqa.runtimes.imports import import_tensorflow

__all__ = ["main"]

T = TypeVar("T")

# Waiting threads sleep: spinning ones would slow down the cell whose turn it is.
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "0"}


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = function()
    return result, 1e3 * (time.perf_counter() - start)


def _import_library(runtime: str) -> None:
    """Import what the runtime needs, so that loading times the file and not Python."""
    if runtime == "tensorflow":
        import_tensorflow()
    elif runtime == "litert":
        importlib.import_module("ai_edge_litert.interpreter")
    else:
        importlib.import_module(RUNTIMES.get(runtime).target.partition(":")[0])


def _status_bytes(name: str) -> int | None:
    """Return ``VmHWM`` or ``VmRSS``: unlike getrusage's, they do not count the parent's memory."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return None


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status_bytes("VmHWM") or (peak if sys.platform == "darwin" else 1024 * peak)


class _Cell:
    """The loaded file, and the image and photographs it is timed with."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._path, self._warm_up = Path(settings["path"]), int(settings["turn_warm_up"])
        self._hashed = Path(settings["hashed"])
        # Read before the clock starts, so that every load is one from the page cache.
        digest = sha256_of(self._hashed)
        baseline = self._load(settings)
        size = self._scorer.size
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        self._image = image
        _, first_ms = _timed(lambda: self._scorer.score(image))
        for _ in range(int(settings["warm_up"])):
            self._scorer.score(image)
        self._photos, self._next = [Path(photo) for photo in settings["photos"]], 0
        self._rested = (time.monotonic(), time.process_time())
        self.ready = {
            "sha256": digest,
            "runtime_version": self._scorer.runtime,
            "size": size,
            "load_ms": self._load_ms,
            "first_ms": first_ms,
            "baseline_rss_bytes": baseline,
        }

    def _load(self, settings: dict[str, Any]) -> int | None:
        runtime, threads = settings["runtime"], int(settings["threads"])
        try:
            _import_library(runtime)
        except ModuleNotFoundError:
            load(self._path, runtime=runtime, threads=threads)  # says which extra is missing
            raise
        baseline = _status_bytes("VmRSS")
        scorer, load_ms = _timed(lambda: load(self._path, runtime=runtime, threads=threads))
        self._scorer: Scorer = scorer
        self._load_ms = load_ms
        return baseline

    def turn(self, *, count: int, seconds: float, photos: int) -> dict[str, Any]:
        """Time inferences of one image, then whole photographs."""
        at_s, used_s = self._rested
        idle = {"idle_s": time.monotonic() - at_s, "idle_cpu_s": time.process_time() - used_s}
        for _ in range(self._warm_up):
            self._scorer.score(self._image)
        samples: dict[str, list[float]] = {"inference": []}
        start = time.perf_counter()
        while len(samples["inference"]) < count or time.perf_counter() - start < seconds:
            samples["inference"].append(_timed(lambda: self._scorer.score(self._image))[1])
        for _ in range(photos):
            for phase, took_ms in self._photo().items():
                samples.setdefault(phase, []).append(took_ms)
        self._rested = (time.monotonic(), time.process_time())
        return {"samples_ms": samples, "cpu_s": time.process_time(), **idle}

    def _photo(self) -> dict[str, float]:
        path = self._photos[self._next % len(self._photos)]
        self._next += 1
        size = self._scorer.size
        start = time.perf_counter()
        image, decode_ms = _timed(lambda: to_rgb(open_photo(path)))
        tensor, preprocess_ms = _timed(lambda: resize_and_crop(image, size)[np.newaxis])
        _, inference_ms = _timed(lambda: self._scorer.score(tensor))
        return {
            "decode": decode_ms,
            "preprocess": preprocess_ms,
            "photo_inference": inference_ms,
            "end_to_end": 1e3 * (time.perf_counter() - start),
        }

    def end(self) -> dict[str, Any]:
        """Return what is known at the end only."""
        digest = sha256_of(self._hashed)
        cpu_s = time.process_time()
        return {"peak_rss_bytes": _peak_rss_bytes(), "sha256": digest, "cpu_s": cpu_s}


def main() -> int:
    """Serve the cell named by the only argument; return the exit code."""
    # What libraries print, in C++ too, goes to the log; answers have a separate descriptor.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.update(_PASSIVE)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        cell = _Cell(json.loads(sys.argv[1]))
        answer(cell.ready)
        for line in sys.stdin:
            request = json.loads(line)
            if "turn" not in request:
                answer(cell.end())
                return 0
            answer(cell.turn(**request["turn"]))
    except EdgeFiqaError as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return 1
    except Exception as error:
        traceback.print_exc()
        answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
