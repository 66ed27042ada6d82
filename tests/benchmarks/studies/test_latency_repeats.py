"""Repeated latency runs: what they count, what they keep, and that the slowed cell is slower."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.tiny_onnx import write_tiny
from typer.testing import CliRunner

from edgefiqa.benchmarks.latency.rules import LatencyRules
from edgefiqa.benchmarks.studies import latency_repeats
from edgefiqa.benchmarks.studies.latency_repeats import is_enough, measure_repeats
from edgefiqa.benchmarks.studies.records import LatencyRepeatsRecord, Repeat
from edgefiqa.benchmarks.studies.slowed_process import SLOWDOWN, SlowedScorer
from edgefiqa.cli import app
from edgefiqa.files import sha256_of

RULES = LatencyRules(rounds=1, turns=1, min_count=3, min_seconds=0)
ARGUMENTS = ["--rounds", "1", "--turns", "1", "--min-count", "3", "--min-seconds", "0"]


def test_a_run_has_three_cells_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = write_tiny(tmp_path / "a.onnx"), tmp_path / "record.json"
    made: list[int] = []
    record = measure_repeats(file, RULES, out, repeats=1, on_repeat=lambda _, n: made.append(n))
    assert record == LatencyRepeatsRecord.model_validate_json(out.read_bytes())
    assert (record.n, record.sha256, made) == (1, sha256_of(file), [1])
    (repeat,) = record.repeats
    assert len(repeat.p50_ms) == 3
    assert repeat.same.verdict != "slower"  # one round has no interval
    assert not is_enough(record)
    # Another run by the same rules goes on; by other rules it starts anew.
    monkeypatch.setattr(latency_repeats, "_repeat_once", lambda *_: repeat)
    assert measure_repeats(file, RULES, out, repeats=2).n == 2
    others = LatencyRules(rounds=2, turns=1, min_count=3, min_seconds=0)
    assert measure_repeats(file, others, out, repeats=1).rules.rounds == 2


def test_runs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratio: dict[str, Any] = {"rounds": (), "ratio": 1.0, "low": 0.9, "high": 1.1, "confidence": 0.9}
    committed = Path(latency_repeats.__file__).parents[1] / "records" / "latency_repeats.json"
    first = LatencyRepeatsRecord.model_validate_json(committed.read_bytes()).repeats[0]
    verdicts = iter([("no difference", "slower")] * 9 + [("slower", "no difference")])

    def once(*_: object) -> Repeat:
        same, slower = next(verdicts)
        found = {"same": ratio | {"verdict": same}, "slower": ratio | {"verdict": slower}}
        return Repeat.model_validate(first.model_dump() | found)

    monkeypatch.setattr(latency_repeats, "_repeat_once", once)
    file = write_tiny(tmp_path / "a.onnx")
    record = measure_repeats(file, RULES, tmp_path / "record.json", repeats=9)
    assert (record.same, record.slower, is_enough(record)) == (9, 9, True)
    command = ["study", "latency-repeats", str(file), "--out", str(tmp_path / "record.json")]
    done = CliRunner().invoke(app, [*command, *ARGUMENTS, "--repeats", "10", "--json"])
    assert done.exit_code == 1, done.output  # 9 of 10 runs are fewer than 95 %
    assert json.loads(done.stdout)["same"] == 9
    assert " 10  same 1.0000 [0.9000, 1.1000] slower" in done.stderr


class _Counting:
    """A scorer that spends some processor time."""

    runtime, size = "test", 8

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        values = np.zeros(200_000)
        for _ in range(10):
            values = np.sqrt(values + 1)
        return np.full(len(images), values[0], np.float32)


def test_the_slowed_scorer_gives_the_same_scores_later() -> None:
    import time

    plain, slowed = _Counting(), SlowedScorer(_Counting())
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert (slowed.score(images) == plain.score(images)).all()
    seconds = []
    for scorer in (plain, slowed):
        samples = []
        for _ in range(40):
            start = time.thread_time()
            scorer.score(images)
            samples.append(time.thread_time() - start)
        seconds.append(float(np.median(samples)))
    assert seconds[1] / seconds[0] == pytest.approx(1 + SLOWDOWN, abs=SLOWDOWN)
    assert seconds[1] > seconds[0]
