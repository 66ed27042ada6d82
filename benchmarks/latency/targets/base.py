"""What a target offers: processes of cells, and the state of the machine they run on."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.records import HostState

__all__ = ["CellSession", "CellStart", "LatencyTarget", "Machine"]


@dataclass(frozen=True, kw_only=True)
class CellStart:
    """What one process of a cell is told.

    Attributes:
        cell: The file and its runtime.
        threads: Threads of one inference.
        warm_up: Inferences after the first and before any sample.
        turn_warm_up: Inferences before each turn.
        turn: What one turn must reach: ``count``, ``seconds``, ``photos``.
        photos: Photographs on this machine, to be timed end to end.
        log: Receives what the process prints.
        limit_s: A process that does not answer for so long has failed.
    """

    cell: Cell
    threads: int
    warm_up: int
    turn_warm_up: int
    turn: dict[str, float]
    photos: tuple[Path, ...]
    log: Path
    limit_s: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is known of the machine around a run.

    Attributes:
        before: Its state before the first sample.
        after: Its state after the last; None where only one was read.
        others: The share of the machine that other processes used; None if unknown.
        noise: One phrase a criterion that was not met.
    """

    before: HostState
    after: HostState | None
    others: float | None
    noise: tuple[str, ...]


class CellSession(Protocol):
    """One process of one cell; messages are those of ``edgefiqa.benchmarks.latency.process``."""

    def answer(self) -> dict[str, Any]:
        """Wait until the file is loaded and has run once.

        Raises:
            EdgeFiqaError: The process reported a fault, died, or took too long.
        """
        ...

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for a turn, or for the end; raises as `answer`."""
        ...

    def close(self) -> None:
        """End the process if it still runs."""
        ...


class LatencyTarget(Protocol):
    """Where files are measured.

    Attributes:
        device: As records name it: "host", "ssh://…", "adb:…".
        takes_turns: Whether processes can wait for each other; without, a round is one turn.
    """

    device: str
    takes_turns: bool

    def opened(
        self, cells: Sequence[Cell], photos: Sequence[Path], packages: Sequence[str]
    ) -> AbstractContextManager[None]:
        """Bring the files there, and clean up at the end.

        Args:
            cells: What will be measured.
            photos: Photographs to be timed end to end.
            packages: Python packages whose versions are recorded.

        Raises:
            EdgeFiqaError: The target cannot be reached, or cannot measure any of the cells.
        """
        ...

    def start(self, start: CellStart) -> CellSession:
        """Start one process of a cell.

        Raises:
            EdgeFiqaError: This target cannot run it.
        """
        ...

    def machine(self) -> Machine:
        """Return what is known of the machine, after the last process has ended."""
        ...
