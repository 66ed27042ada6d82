"""This machine: a process of a cell is a Python process here."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgefiqa.benchmarks.latency.pipe import CellProcess
from edgefiqa.benchmarks.latency.targets.base import CellSession, CellStart, Machine
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.host_facts import read_cpu_use
from edgefiqa.measuring.host_state import machine_noise, read_host_state, share_of_others

__all__ = ["HOST", "HostTarget", "worker_settings"]

HOST = "host"
"""What ``--target`` and records call this machine."""

_WORKER = (sys.executable, "-m", "edgefiqa.benchmarks.latency.process")


def worker_settings(
    start: CellStart, *, path: str, hashed: str, photos: Sequence[str]
) -> dict[str, object]:
    """Return what a worker is given as JSON, see ``edgefiqa.benchmarks.latency.process``.

    Args:
        start: The cell.
        path: The file, or model directory, on the machine that measures.
        hashed: What is hashed there.
        photos: The photographs there.
    """
    return {
        "path": path,
        "hashed": hashed,
        "runtime": start.cell.runtime,
        "threads": start.threads,
        "photos": list(photos),
        "warm_up": start.warm_up,
        "turn_warm_up": start.turn_warm_up,
    }


class HostTarget:
    """This machine.

    Args:
        worker: Command of a cell's process.
    """

    device = HOST
    takes_turns = True

    def __init__(self, worker: Sequence[str] = _WORKER) -> None:
        self._worker = worker
        self._packages: Sequence[str] = ()

    @contextmanager
    def opened(
        self, cells: Sequence[Cell], photos: Sequence[Path], packages: Sequence[str]
    ) -> Iterator[None]:
        """Read the state before the first sample."""
        self._packages = packages
        self._before, self._use = read_host_state(packages), read_cpu_use()
        yield

    def start(self, start: CellStart) -> CellSession:
        """Start a Python process."""
        settings = worker_settings(
            start,
            path=str(start.cell.path),
            hashed=str(start.cell.file),
            photos=[str(photo) for photo in start.photos],
        )
        return CellProcess([*self._worker, json.dumps(settings)], start.log, start.limit_s)

    def machine(self) -> Machine:
        """Read the state after the last sample, and what else ran meanwhile."""
        after = read_host_state(self._packages)
        others = share_of_others(self._use, read_cpu_use())
        noise = machine_noise(self._before, after, others)
        return Machine(before=self._before, after=after, others=others, noise=tuple(noise))
