"""Loops that run in separate processes and take turns, a few steps at a time.

On a machine that others share, speed drifts by more within minutes than loops differ. So all loops
are started, each stops before its first step, and then they go on one after the other for some
steps each, round after round, every second round in the reverse order. While one runs, the others
wait; the first steps of a turn, which find batches prepared while their loop waited, do not count.
"""

import socket
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.isolation import call_isolated

__all__ = ["TurnClock", "take_turns"]

_PATIENCE_SECONDS = 0.2


class TurnClock:
    """Measures a loop's steps, and holds the loop up until it is its turn.

    Args:
        address: Where `take_turns` listens.
        lead: Steps of a turn that do not count.
        steps: Those that do.
    """

    def __init__(self, address: Path, *, lead: int, steps: int) -> None:
        self._address, self._lead, self._steps = address, lead, steps
        self._connection: Connection | None = None
        self._times: list[float] = []

    def tick(self) -> None:
        """Note that a step starts; at the end of a turn, report it and wait for the next."""
        if self._connection is None:
            caller = socket.socket(socket.AF_UNIX)
            caller.connect(str(self._address))
            self._connection = Connection(caller.detach())
            self._connection.recv()
        self._times.append(time.perf_counter())
        if len(self._times) > self._lead + self._steps:
            counted = self._times[self._lead :]
            self._connection.send([after - before for before, after in pairwise(counted)])
            self._connection.recv()
            self._times = [time.perf_counter()]


def take_turns(loops: Mapping[str, partial[None]], *, rounds: int) -> list[dict[str, list[float]]]:
    """Run loops in turn.

    Args:
        loops: Each is called in a fresh process, with an address for its `TurnClock` as its last
            argument, and ticks `rounds` × (lead + steps) + 1 times.
        rounds: Turns of each loop.

    Returns:
        By round and loop, the seconds of each step that counts.

    Raises:
        EdgeFiqaError: As a loop raised, or because one ended before its last turn.
    """
    with ExitStack() as stack:
        address = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "turns"
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(address))
        server.listen()
        server.settimeout(_PATIENCE_SECONDS)
        pool = stack.enter_context(ThreadPoolExecutor(len(loops)))
        waiting: dict[str, tuple[Future[None], Connection]] = {}
        for name, loop in loops.items():
            future = pool.submit(_run, loop, address)
            connection = stack.enter_context(_accept(server, future))
            waiting[name] = future, connection
        found = []
        for number in range(rounds):
            order = list(waiting)[:: -1 if number % 2 else 1]
            turn = {name: _one_turn(*waiting[name]) for name in order}
            found.append({name: turn[name] for name in waiting})
        for future, connection in waiting.values():
            connection.send(True)
            future.result()
    return found


def _run(loop: partial[None], address: Path) -> None:
    arguments: tuple[Any, ...] = (*loop.args, address)
    call_isolated(None, loop.func, *arguments)


def _accept(server: socket.socket, future: Future[None]) -> Connection:
    while True:
        try:
            return Connection(server.accept()[0].detach())
        except TimeoutError:
            _check_alive(future)


def _one_turn(future: Future[None], connection: Connection) -> list[float]:
    connection.send(True)
    while not connection.poll(_PATIENCE_SECONDS):
        _check_alive(future)
    try:
        seconds: list[float] = connection.recv()
    except EOFError:
        future.result()
        raise EdgeFiqaError("a loop ended before its last turn") from None
    return seconds


def _check_alive(future: Future[None]) -> None:
    if future.done():
        future.result()
        raise EdgeFiqaError("a loop ended before its last turn")
