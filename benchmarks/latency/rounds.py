"""All cells of one latency run, driven in turns on one target."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.latency.rules import LatencyRules
from edgefiqa.benchmarks.latency.targets.base import CellSession, CellStart, LatencyTarget
from edgefiqa.errors import ArtifactError, EdgeFiqaError
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.records import LatencyPhase

__all__ = ["IDLE_SHARE", "ROUND_SPREAD", "LatencyRun", "Taken"]

ROUND_SPREAD = 0.05
"""Interquartile range of a cell's round medians over their median; above, the run is noisy."""

IDLE_SHARE = 0.02
"""Share of a processor that a waiting process may use; above, it disturbs the others."""

_SHORTEST_IDLE_S = 0.1  # below, the clock's resolution decides


@dataclass(kw_only=True)
class Taken:
    """What one cell (file × threads) has given so far.

    Attributes:
        cell: The file and its runtime.
        threads: Threads of one inference.
        samples_ms: By phase, in order.
        rounds: Round of each inference sample.
        turns: Its turn in the round.
        inferences: How many inferences it is the mean of, where that is not one.
        runtime_version: As the runtime names itself.
        peak_rss_bytes: The largest of all processes; 0 where it cannot be read.
        baseline_rss_bytes: Before the file was loaded; None where it cannot be read.
        idle_s: Time between turns, all processes.
        idle_cpu_s: Processor time used in it.
        error: Why it has ended; empty while it has not.
    """

    cell: Cell
    threads: int
    samples_ms: dict[str, list[float]] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    inferences: list[int] = field(default_factory=list)
    runtime_version: str = ""
    peak_rss_bytes: int = 0
    baseline_rss_bytes: int | None = None
    idle_s: float = 0.0
    idle_cpu_s: float = 0.0
    error: str = ""

    def add(self, phase: str, samples_ms: Sequence[float]) -> None:
        """Add samples of one phase."""
        self.samples_ms.setdefault(phase, []).extend(samples_ms)

    def add_start(self, ready: dict[str, Any]) -> None:
        """Add what a process said when it was ready."""
        for phase, took_ms in (
            (LatencyPhase.LOAD, ready["load_ms"]),
            (LatencyPhase.FIRST, ready["first_ms"]),
        ):
            if took_ms is not None:  # an external tool may not tell
                self.add(phase, [took_ms])
        self.runtime_version = ready["runtime_version"]
        self.baseline_rss_bytes = ready["baseline_rss_bytes"]

    def add_turn(self, answer: dict[str, Any], round_: int, turn: int) -> None:
        """Add what a process said after a turn."""
        count = len(answer["samples_ms"][LatencyPhase.INFERENCE])
        for phase, samples_ms in answer["samples_ms"].items():
            self.add(phase, samples_ms)
        self.rounds += [round_] * count
        self.turns += [turn] * count
        self.inferences += answer.get("inferences", ())
        if turn:  # before the first turn it waited for others to load
            self.idle_s += answer["idle_s"]
            self.idle_cpu_s += answer["idle_cpu_s"]

    def noise(self, cores: int) -> list[str]:
        """Say what was wrong with this cell's samples; one phrase a criterion."""
        found = []
        if self.threads > cores:
            found.append(f"{self.threads} threads on {cores} cores")
        samples, rounds = np.array(self.samples_ms[LatencyPhase.INFERENCE]), np.array(self.rounds)
        medians: NDArray[np.float64] = np.array(
            [np.median(samples[rounds == number]) for number in np.unique(rounds)]
        )
        low, middle, high = np.percentile(medians, (25, 50, 75))
        if high - low > ROUND_SPREAD * middle:
            found.append(f"the medians of its rounds spread by {(high - low) / middle:.0%}")
        if self.idle_s > _SHORTEST_IDLE_S and self.idle_cpu_s > IDLE_SHARE * self.idle_s:
            found.append(f"its process used {self.idle_cpu_s / self.idle_s:.0%} while waiting")
        return found


class LatencyRun:
    """All cells of one run, driven in turns.

    Args:
        cells: What to measure.
        rules: How.
        target: Where.
        logs: Folder of what the processes print.
        photos: Photographs for the end-to-end phases.
        on_round: Called with the round and the number of threads before each group.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        rules: LatencyRules,
        *,
        target: LatencyTarget,
        logs: Path,
        photos: Sequence[Path],
        on_round: Callable[[int, int], object],
    ) -> None:
        self._rules, self._target, self._logs = rules, target, logs
        self._photos, self._on_round = tuple(photos), on_round
        # Thread by thread: only files with as many threads take turns with each other.
        self._groups = {
            threads: [Taken(cell=cell, threads=threads) for cell in cells]
            for threads in rules.threads
        }

    @property
    def taken(self) -> list[Taken]:
        """What each cell gave, those of one number of threads together."""
        return [turns for group in self._groups.values() for turns in group]

    def measure(self) -> None:
        """Measure all rounds; a cell that fails says so and the others go on."""
        for round_ in range(self._rules.rounds):
            sweep = self._rules.threads if round_ % 2 == 0 else self._rules.threads[::-1]
            for threads in sweep:
                group = [turns for turns in self._groups[threads] if not turns.error]
                if group:
                    self._on_round(round_, threads)
                    self._round(group, round_)

    def _round(self, group: Sequence[Taken], round_: int) -> None:
        # Of equal files, none may always be first, last or in the middle: the order is drawn.
        draw = random.Random(round_)
        with ExitStack() as stack:
            sessions: list[tuple[Taken, CellSession]] = []
            # Started one after the other: each load has the machine for itself.
            for taken in draw.sample(group, len(group)):
                with self._catching(taken):
                    session = self._start(taken)
                    stack.callback(session.close)
                    self._check(taken, session.answer(), started=True)
                    sessions.append((taken, session))
            self._turns(sessions, draw, round_)
            for taken, session in sessions:
                if not taken.error:
                    with self._catching(taken):
                        self._check(taken, session.ask({"finish": True}), started=False)

    def _turns(
        self, sessions: list[tuple[Taken, CellSession]], draw: random.Random, round_: int
    ) -> None:
        request = {"turn": self._rules.of_turn(len(self._photos))}
        for turn in range(self._rules.turns):
            if turn % 2 == 0:
                draw.shuffle(sessions)
            for taken, session in sessions if turn % 2 == 0 else sessions[::-1]:
                if not taken.error:
                    with self._catching(taken):
                        taken.add_turn(session.ask(request), round_, turn)

    @contextmanager
    def _catching(self, taken: Taken) -> Iterator[None]:
        try:
            yield
        except EdgeFiqaError as error:
            done = len(taken.rounds)
            taken.error = str(error) + (f", after {done} samples" if done else "")

    def _start(self, taken: Taken) -> CellSession:
        cell = taken.cell
        return self._target.start(
            CellStart(
                cell=cell,
                threads=taken.threads,
                warm_up=self._rules.warm_up,
                turn_warm_up=self._rules.turn_warm_up,
                turn=self._rules.of_turn(len(self._photos)),
                photos=self._photos,
                log=self._logs / f"latency-{cell.runtime}-{cell.sha256[:12]}.log",
                limit_s=self._rules.limit_s,
            )
        )

    @staticmethod
    def _check(taken: Taken, answer: dict[str, Any], *, started: bool) -> None:
        if answer["sha256"] != taken.cell.sha256:
            what, next_step = "the file changed during the run", "run it again"
            raise ArtifactError(what, value=taken.cell.file, next_step=next_step)
        if started:
            taken.add_start(answer)
        else:
            taken.peak_rss_bytes = max(taken.peak_rss_bytes, answer["peak_rss_bytes"] or 0)
