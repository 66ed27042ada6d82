"""How long a file takes, measured so that the answer repeats.

::

    round 1 ─┬─ 1 thread  ─ fresh processes A B C ─ turns  A B C  C B A  C A B  …  ─ end
             └─ 2 threads ─ fresh processes C A B ─ turns  C A B  B A C  B C A  …
    round 2 …                                    every sample kept ──▶ latency/*.json

The rules follow MLPerf Mobile's single stream: load, first inference, warm-up, then at least so
many samples *and* at least so many seconds; the raw samples are kept and no outlier is removed.
Each cell (file × threads) has a process of its own, since thread pools of several runtimes disturb
each other, and waits in a read while others have their turn.

A run is noisy if the machine was (``edgefiqa.benchmarks.host_state``: load before it, other
processes during it, temperature, governor), if a cell had more threads than there are processors,
if the medians of its rounds spread by more than ``ROUND_SPREAD`` of their median, or if its
process used more than ``IDLE_SHARE`` of a processor between its turns.
"""

import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.host_state import (
    machine_noise,
    read_cpu_use,
    read_host_state,
    share_of_others,
)
from edgefiqa.benchmarks.latency_cells import LatencyCell
from edgefiqa.benchmarks.latency_pipe import CellProcess
from edgefiqa.benchmarks.latency_summary import LatencyOutcome, summary_text
from edgefiqa.benchmarks.paired_ratios import CONFIDENCE, paired_ratios
from edgefiqa.benchmarks.records import (
    Executed,
    FailureRecord,
    HostState,
    LatencyRecord,
    Phase,
    RunRules,
)
from edgefiqa.benchmarks.run_directory import load_record, record_path, save_record
from edgefiqa.errors import ArtifactError, EdgeFiqaError, UsageError
from edgefiqa.files import size_of, write_text
from edgefiqa.runtimes import RUNTIMES

__all__ = [
    "IDLE_SHARE",
    "ROUND_SPREAD",
    "SUMMARY_NAME",
    "LatencyRules",
    "measure_latency",
]

SUMMARY_NAME = "latency_summary.json"

ROUND_SPREAD = 0.05
"""Interquartile range of a cell's round medians over their median; above, the run is noisy."""

IDLE_SHARE = 0.02
"""Share of a processor that a waiting process may use; above, it disturbs the others."""

_DEVICE = "host"
_SHORTEST_IDLE_S = 0.1  # below, the clock's resolution decides
_WORKER = (sys.executable, "-m", "edgefiqa.benchmarks.latency_process")
_FAILURE = "latency: "
_PACKAGES = {
    "torch": ("torch", "timm"),
    "onnxruntime": ("onnxruntime",),
    "litert": ("ai-edge-litert",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "executorch": ("executorch", "torch"),
    "coreml": ("coremltools",),
}


@dataclass(frozen=True, kw_only=True)
class LatencyRules:
    """How a run measures.

    Attributes:
        threads: The sweep.
        rounds: Fresh processes of each cell; the independent repeats of every interval.
        turns: Of each process in a round; many short ones pair better than few long ones.
        warm_up: Inferences after the first and before any sample.
        turn_warm_up: Inferences before each turn, after other files had theirs.
        min_count: Fewest samples of a cell, over all rounds.
        min_seconds: Shortest time of a cell, over all rounds.
        photos_a_turn: Photographs timed end to end in each turn, where there are any.
        limit_s: A process that does not answer for so long has failed.
    """

    threads: tuple[int, ...] = (1,)
    rounds: int = 10
    turns: int = 16
    warm_up: int = 5
    turn_warm_up: int = 2
    min_count: int = 1024
    min_seconds: float = 10.0
    photos_a_turn: int = 2
    limit_s: float = 600.0

    def __post_init__(self) -> None:
        least = {"rounds": 1, "turns": 1, "min_count": 1, "warm_up": 0, "turn_warm_up": 0}
        for name, allowed in least.items():
            if getattr(self, name) < allowed:
                what = f"{name} is out of range"
                raise UsageError(what, value=getattr(self, name), allowed=f"{allowed} or more")
        if not self.threads or min(self.threads) < 1 or len(set(self.threads)) < len(self.threads):
            what = "the thread sweep is not usable"
            raise UsageError(what, value=self.threads, allowed="different numbers from 1")

    def of_turn(self, photos: int) -> dict[str, float]:
        """Return what one turn must reach for the whole run to reach the minima."""
        parts = self.rounds * self.turns
        seconds = self.min_seconds / parts
        count, wanted = -(-self.min_count // parts), self.photos_a_turn if photos else 0
        return {"count": count, "seconds": seconds, "photos": wanted}


@dataclass(kw_only=True)
class _Taken:
    """What one cell (file × threads) has given so far."""

    cell: LatencyCell
    threads: int
    samples_ms: dict[str, list[float]] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    runtime_version: str = ""
    peak_rss_bytes: int = 0
    baseline_rss_bytes: int | None = None
    idle_s: float = 0.0
    idle_cpu_s: float = 0.0
    error: str = ""

    def add(self, phase: str, samples_ms: Sequence[float]) -> None:
        self.samples_ms.setdefault(phase, []).extend(samples_ms)

    def add_start(self, ready: dict[str, Any]) -> None:
        self.add(Phase.LOAD, [ready["load_ms"]])
        self.add(Phase.FIRST, [ready["first_ms"]])
        self.runtime_version = ready["runtime_version"]
        self.baseline_rss_bytes = ready["baseline_rss_bytes"]

    def add_turn(self, answer: dict[str, Any], round_: int, turn: int) -> None:
        count = len(answer["samples_ms"][Phase.INFERENCE])
        for phase, samples_ms in answer["samples_ms"].items():
            self.add(phase, samples_ms)
        self.rounds += [round_] * count
        self.turns += [turn] * count
        if turn:  # before the first turn it waited for others to load
            self.idle_s += answer["idle_s"]
            self.idle_cpu_s += answer["idle_cpu_s"]

    def noise(self, cores: int) -> list[str]:
        found = []
        if self.threads > cores:
            found.append(f"{self.threads} threads on {cores} cores")
        samples, rounds = np.array(self.samples_ms[Phase.INFERENCE]), np.array(self.rounds)
        medians: NDArray[np.float64] = np.array(
            [np.median(samples[rounds == own]) for own in np.unique(rounds)]
        )
        low, middle, high = np.percentile(medians, (25, 50, 75))
        if high - low > ROUND_SPREAD * middle:
            found.append(f"the medians of its rounds spread by {(high - low) / middle:.0%}")
        if self.idle_s > _SHORTEST_IDLE_S and self.idle_cpu_s > IDLE_SHARE * self.idle_s:
            found.append(f"its process used {self.idle_cpu_s / self.idle_s:.0%} while waiting")
        return found


class _Run:
    """All cells of one run, driven in turns."""

    def __init__(
        self,
        cells: Sequence[LatencyCell],
        rules: LatencyRules,
        *,
        out: Path,
        photos: Sequence[Path],
        worker: Sequence[str],
        on_round: Callable[[int, int], object],
    ) -> None:
        self._rules, self._out, self._photos = rules, out, [str(path) for path in photos]
        self._worker, self._on_round = worker, on_round
        # Thread by thread: only files with as many threads take turns with each other.
        self.groups = {
            threads: [_Taken(cell=cell, threads=threads) for cell in cells]
            for threads in rules.threads
        }

    def measure(self) -> None:
        for round_ in range(self._rules.rounds):
            sweep = self._rules.threads if round_ % 2 == 0 else self._rules.threads[::-1]
            for threads in sweep:
                self._on_round(round_, threads)
                self._round([own for own in self.groups[threads] if not own.error], round_)

    def _round(self, group: Sequence[_Taken], round_: int) -> None:
        # Of equal files, none may always be first, last or in the middle: the order is drawn.
        draw = random.Random(round_)
        with ExitStack() as stack:
            processes: list[tuple[_Taken, CellProcess]] = []
            # Started one after the other: each load has the machine for itself.
            for taken in draw.sample(group, len(group)):
                with self._catching(taken):
                    process = self._start(taken)
                    stack.callback(process.close)
                    self._check(taken, process.answer(), started=True)
                    processes.append((taken, process))
            request = {"turn": self._rules.of_turn(len(self._photos))}
            for turn in range(self._rules.turns):
                if turn % 2 == 0:
                    draw.shuffle(processes)
                for taken, process in processes if turn % 2 == 0 else processes[::-1]:
                    if not taken.error:
                        with self._catching(taken):
                            taken.add_turn(process.ask(request), round_, turn)
            for taken, process in processes:
                if not taken.error:
                    with self._catching(taken):
                        self._check(taken, process.ask({"finish": True}), started=False)

    @contextmanager
    def _catching(self, taken: _Taken) -> Iterator[None]:
        try:
            yield
        except EdgeFiqaError as error:
            done = len(taken.rounds)
            taken.error = str(error) + (f", after {done} samples" if done else "")

    def _start(self, taken: _Taken) -> CellProcess:
        cell = taken.cell
        settings = {
            "path": str(cell.path),
            "hashed": str(cell.file),
            "runtime": cell.runtime,
            "threads": taken.threads,
            "photos": self._photos,
            "warm_up": self._rules.warm_up,
            "turn_warm_up": self._rules.turn_warm_up,
        }
        log = self._out / "logs" / f"latency-{cell.runtime}-{cell.sha256[:12]}.log"
        command = [*self._worker, json.dumps(settings)]
        return CellProcess(command, log, self._rules.limit_s)

    @staticmethod
    def _check(taken: _Taken, answer: dict[str, Any], *, started: bool) -> None:
        if answer["sha256"] != taken.cell.sha256:
            what, next_step = "the file changed during the run", "run it again"
            raise ArtifactError(what, value=taken.cell.file, next_step=next_step)
        if started:
            taken.add_start(answer)
        else:
            taken.peak_rss_bytes = max(taken.peak_rss_bytes, answer["peak_rss_bytes"])


_Named: TypeAlias = tuple[str, str, int]


def measure_latency(
    cells: Sequence[LatencyCell],
    rules: LatencyRules,
    *,
    out: Path,
    photos: Sequence[Path] = (),
    confidence: float = CONFIDENCE,
    worker: Sequence[str] = _WORKER,
    on_round: Callable[[int, int], object] = lambda round_, threads: None,
) -> LatencyOutcome:
    """Measure files on this machine, in turns, and write their records.

    A cell that crashes becomes a failure record; the others finish.

    Args:
        cells: The first is the base of the ratios.
        rules: How.
        out: The run directory: ``latency/``, ``failures/``, ``logs/``, the summary.
        photos: Photographs for the end-to-end phases; empty measures inference alone.
        confidence: Of the ratios' intervals.
        worker: Command of a cell's process.
        on_round: Called with the round and the number of threads before each group.

    Returns:
        What was written.
    """
    missing = [photo for photo in photos if not photo.is_file()]
    if missing:
        raise UsageError(
            "there is no such photograph", value=missing[0], next_step="check --images"
        )
    packages = dict.fromkeys(p for cell in cells for p in _PACKAGES.get(cell.runtime, ()))
    run = _Run(cells, rules, out=out, photos=photos, worker=worker, on_round=on_round)
    before, use = read_host_state(tuple(packages)), read_cpu_use()
    run.measure()
    after = read_host_state(tuple(packages))
    others = share_of_others(use, read_cpu_use(), processors=os.cpu_count() or 1)
    machine = machine_noise(before, after, others)
    name = f"{datetime.now(UTC).isoformat('T', 'milliseconds')}-{os.getpid()}"
    taken = [own for group in run.groups.values() for own in group]
    records = [
        _record(own, rules, name, (before, after), machine) for own in taken if not own.error
    ]
    failures = _failures([own for own in taken if own.error])
    _save(out, taken, records, failures)
    ratios = paired_ratios(records, confidence=confidence)
    outcome = LatencyOutcome(records=tuple(records), failures=tuple(failures), ratios=tuple(ratios))
    write_text(out / SUMMARY_NAME, summary_text(outcome, others))
    return outcome


def _record(
    taken: _Taken,
    rules: LatencyRules,
    name: str,
    hosts: tuple[HostState, HostState],
    machine: Sequence[str],
) -> LatencyRecord:
    cell, (before, after) = taken.cell, hosts
    samples_ms = {Phase(phase): tuple(own) for phase, own in taken.samples_ms.items()}
    return LatencyRecord(
        executed=Executed(
            file=cell.name,
            sha256=cell.sha256,
            size_bytes=size_of(cell.file),
            format=RUNTIMES.get(cell.runtime).format.value,
            target=cell.target,
            precision=cell.precision,
            runtime=cell.runtime,
            runtime_version=taken.runtime_version,
            threads=taken.threads,
            twins=cell.twins,
        ),
        device=_DEVICE,
        host=before,
        host_after=after,
        rules=RunRules(
            warm_up=rules.warm_up,
            turn_warm_up=rules.turn_warm_up,
            min_count=rules.min_count,
            min_seconds=rules.min_seconds,
            rounds=rules.rounds,
            turns=rules.turns,
            interleaved=name,
        ),
        samples_ms=samples_ms,
        rounds=tuple(taken.rounds),
        turns=tuple(taken.turns),
        peak_rss_bytes=taken.peak_rss_bytes,
        baseline_rss_bytes=taken.baseline_rss_bytes,
        noise="; ".join([*machine, *taken.noise(before.cores)]) or None,
    )


def _failures(failed: Sequence[_Taken]) -> list[FailureRecord]:
    by_file: dict[tuple[str, str], list[_Taken]] = {}
    for taken in failed:
        by_file.setdefault((taken.cell.name, taken.cell.runtime), []).append(taken)
    records = []
    for group in by_file.values():
        cell = group[0].cell
        faults = (f"{own.threads} thread{'s' * (own.threads > 1)}: {own.error}" for own in group)
        records.append(
            FailureRecord(
                file=cell.name,
                sha256=cell.sha256,
                target=cell.target,
                precision=cell.precision,
                runtime=cell.runtime,
                error=_FAILURE + "; ".join(faults),
                twins=cell.twins,
            )
        )
    return records


def _save(
    out: Path,
    taken: Sequence[_Taken],
    records: Sequence[LatencyRecord],
    failures: Sequence[FailureRecord],
) -> None:
    """Write the records; what an earlier run left of the same cells goes."""
    measured = {(own.cell.name, own.cell.runtime, own.threads) for own in taken}
    for path in (out / "latency").glob("*.json"):
        old = load_record(path)
        if isinstance(old, LatencyRecord) and old.device == _DEVICE and _named(old) in measured:
            path.unlink()
    for path in (out / "failures").glob("*.json"):
        failure = load_record(path)
        cells = {name[:2] for name in measured}
        if not isinstance(failure, FailureRecord) or not failure.error.startswith(_FAILURE):
            continue
        if (failure.file, failure.runtime) in cells:
            path.unlink()
    for record in records:
        save_record(out, record)
    for failure in failures:
        if not record_path(out, failure).exists():  # it failed to score too, which says more
            save_record(out, failure)


def _named(record: LatencyRecord) -> _Named:
    return record.executed.file, record.executed.runtime, record.executed.threads
