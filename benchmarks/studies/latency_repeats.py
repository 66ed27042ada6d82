"""Does a latency run repeat? A file against itself, and against itself made 10 % slower.

    python scripts/latency_repeats.py FILE [--repeats 20] [--out RECORD]

Each repeat is one ordinary interleaved run of three cells: A; the same bytes again; the same bytes
whose every inference is followed, inside the timed call, by a loop that takes 10 % of the processor
time that inferences lately took. The interval of the second should contain 1, that of the third
lie above it. Interrupt it freely: the same command goes on.

The delay lives in a worker of this script's own, which runs the product's worker and wraps what
``load`` returns; what is measured otherwise, and how, is the product's.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from edgefiqa.benchmarks.latency import process as latency_process
from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.benchmarks.latency.run import SUMMARY_NAME, LatencyRules, measure_latency
from edgefiqa.benchmarks.latency.summary import LatencyOutcome, summarise
from edgefiqa.benchmarks.latency.targets.host import HostTarget
from edgefiqa.files import sha256_of, write_text
from edgefiqa.measuring.records import LatencyPhase
from edgefiqa.runtimes import Scorer, load

RECORD = Path(__file__).parents[1] / "records" / "latency_repeats.json"
SLOWDOWN = 0.10
EXPECTED = {"same": "no difference", "slower": "slower"}
"""What the interval of each comparison should say."""

WANTED = {"same": 0.95, "slower": 0.90}
"""In which share of the repeats it must, at least."""

_SLOWED = "slowed"
_LATELY = 25


class SlowedScorer:
    """A scorer whose every call takes 10 % more of the processor, with one thread.

    Args:
        scorer: What computes the scores.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.runtime, self.size = scorer.runtime, scorer.size
        self._scorer = scorer
        # The median of the last few: the 10 % stay 10 % while the machine drifts. Processor time:
        # a wait by the clock would grow with what other processes take.
        self._lately_s: deque[float] = deque(maxlen=_LATELY)

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images, then spin; see ``Scorer.score``."""
        start = time.thread_time()
        scores = self._scorer.score(images)
        end = time.thread_time()
        self._lately_s.append(end - start)
        until = end + SLOWDOWN * statistics.median(self._lately_s)
        while time.thread_time() < until:
            pass
        return scores


def serve() -> int:
    """Be the process of one cell; files that are named so are slowed."""

    def load_slowed(path: Path, *, runtime: str, threads: int) -> Scorer:
        scorer = load(path, runtime=runtime, threads=threads)
        return SlowedScorer(scorer) if path.stem == _SLOWED else scorer

    with mock.patch.object(latency_process, "load", load_slowed):
        return latency_process.main()


def repeat_once(file: Path, rules: LatencyRules, folder: Path) -> dict[str, Any]:
    """Measure the three cells in turns.

    Args:
        file: An exported file.
        rules: How.
        folder: For the run directory and the link to the file.

    Returns:
        The ratios of each round and their intervals, and the state of the machine, as plain data.
    """
    slowed = folder / f"{_SLOWED}{file.suffix}"
    slowed.symlink_to(file.resolve())
    # One path again is another cell: twins of equal bytes would be measured once.
    cells = list_latency_cells([file, file, slowed])
    target = HostTarget([sys.executable, str(Path(__file__).resolve())])
    outcome = measure_latency(cells, rules, out=folder / "run", target=target)
    if outcome.failures:
        sys.exit(f"error: {outcome.failures[0].error}")
    summary = json.loads((folder / "run" / SUMMARY_NAME).read_text(encoding="utf-8"))
    return as_record(outcome, summary["others_share"])


def as_record(outcome: LatencyOutcome, others_share: float | None) -> dict[str, Any]:
    """Return a repeat as plain data."""
    records = outcome.records
    after = records[0].host_after
    ratios = {
        name: {
            "rounds": [round(value, 6) for value in own.rounds],
            "ratio": own.ratio.value,
            "low": own.ratio.low,
            "high": own.ratio.high,
            "confidence": own.confidence,
            "verdict": own.verdict,
        }
        for name, own in zip(WANTED, outcome.ratios, strict=True)
    }
    return {
        "runtime": records[0].executed.runtime_version,
        "host": records[0].host.model_dump(mode="json"),
        "host_after": after.model_dump(mode="json") if after else None,
        "others_share": others_share,
        "noise": outcome.noise,
        "p50_ms": [summarise(own.samples_ms[LatencyPhase.INFERENCE]).p50_ms for own in records],
        **ratios,
    }


def count(repeats: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Count the repeats that said what they should."""
    return {
        name: sum(own[name]["verdict"] == verdict for own in repeats)
        for name, verdict in EXPECTED.items()
    }


def go_on(out: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the repeats that an earlier call of the same measurement wrote."""
    known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    same = all(known.get(name) == value for name, value in head.items())
    repeats: list[dict[str, Any]] = known["repeats"] if same else []
    return repeats


def line(own: dict[str, Any], place: int) -> str:
    """Return a repeat in one line."""
    parts = [f"{place:3d}"]
    for name in WANTED:
        ratio = own[name]
        interval = f"[{ratio['low']:.4f}, {ratio['high']:.4f}]" if ratio["low"] else "no interval"
        parts.append(f"{name} {ratio['ratio']:.4f} {interval} {ratio['verdict']}")
    others = own["others_share"]
    return "  ".join(parts) + ("" if others is None else f"  (others used {others:.0%})")


def main() -> None:
    """Parse the command line, repeat, count."""
    parser = argparse.ArgumentParser(description="does a latency run repeat?")
    parser.add_argument("file", type=Path, help="an exported file")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=LatencyRules.rounds)
    parser.add_argument("--turns", type=int, default=LatencyRules.turns)
    parser.add_argument("--min-count", type=int, default=LatencyRules.min_count)
    parser.add_argument("--min-seconds", type=float, default=LatencyRules.min_seconds)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    rules = LatencyRules(
        rounds=options.rounds,
        turns=options.turns,
        min_count=options.min_count,
        min_seconds=options.min_seconds,
    )
    head = {
        "measurement": "latency_repeats",
        "schema_version": 1,
        "file": options.file.name,
        "sha256": sha256_of(options.file),
        "slowdown": SLOWDOWN,
        "rules": vars(rules) | {"threads": list(rules.threads)},
    }
    repeats = go_on(options.out, head)
    for place in range(len(repeats), options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            repeats.append(repeat_once(options.file, rules, Path(folder)))
        record = head | {"n": len(repeats), **count(repeats), "repeats": repeats}
        write_text(options.out, json.dumps(record, indent=1) + "\n")
        print(line(repeats[-1], place + 1), flush=True)
    found = count(repeats)
    print(f"A against A: the interval contains 1 in {found['same']} of {len(repeats)}")
    print(f"A against itself, 10 % slower: flagged in {found['slower']} of {len(repeats)}")
    sys.exit(any(found[name] < share * len(repeats) for name, share in WANTED.items()))


if __name__ == "__main__":
    # The target gives its worker one JSON object.
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        sys.exit(serve())
    main()
