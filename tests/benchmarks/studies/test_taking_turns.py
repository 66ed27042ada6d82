"""Loops in separate processes run one at a time."""

import time
from functools import partial
from pathlib import Path

import pytest

from edgefiqa.benchmarks.studies.taking_turns import TurnClock, take_turns
from edgefiqa.errors import EdgeFiqaError

LEAD, STEPS, ROUNDS = 1, 2, 3


def loop(seconds: float, ticks: int, notes: Path, name: str, address: Path) -> None:
    """Take steps of a known length, and note when each begins."""
    clock = TurnClock(address, lead=LEAD, steps=STEPS)
    for _ in range(ticks):
        clock.tick()
        with notes.open("a") as file:
            file.write(f"{time.monotonic()} {name}\n")
        time.sleep(seconds)


def loops(notes: Path, ticks: int, **lengths: float) -> dict[str, partial[None]]:
    return {name: partial(loop, seconds, ticks, notes, name) for name, seconds in lengths.items()}


def test_steps_are_timed_and_turns_do_not_overlap(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    ticks = ROUNDS * (LEAD + STEPS) + 1
    found = take_turns(loops(notes, ticks, short=0.05, long=0.1), rounds=ROUNDS)
    assert len(found) == ROUNDS
    for turn in found:
        assert [len(seconds) for seconds in turn.values()] == [STEPS, STEPS]
        # A sleep is never shorter than asked for.
        assert min(turn["short"]) >= 0.05 and min(turn["long"]) >= 0.1
    begun = [line.split()[1] for line in sorted(notes.read_text().splitlines(), key=_moment)]
    turns = [begun[i : i + LEAD + STEPS] for i in range(0, len(begun) - 2, LEAD + STEPS)]
    # In turn, every second round in the reverse order; then both take their last step.
    assert [set(loops_of_turn) for loops_of_turn in turns] == [
        {name} for name in ("short", "long", "long", "short", "short", "long")
    ]
    assert sorted(begun[-2:]) == ["long", "short"]


def _moment(line: str) -> float:
    return float(line.split(maxsplit=1)[0])


def test_a_loop_that_ends_early_or_fails_is_no_endless_wait(tmp_path: Path) -> None:
    early = loops(tmp_path / "notes", 2, early=0.0)
    with pytest.raises(EdgeFiqaError, match="before its last turn"):
        take_turns(early, rounds=1)
    failing = partial(loop, -1.0, 2, tmp_path / "notes", "failing")
    with pytest.raises(EdgeFiqaError, match="sleep length must be non-negative"):
        take_turns({"failing": failing}, rounds=1)
