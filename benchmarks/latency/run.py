"""How long a file takes, measured so that the answer repeats.

::

    round 1 ─┬─ 1 thread  ─ fresh processes A B C ─ turns  A B C  C B A  C A B  …  ─ end
             └─ 2 threads ─ fresh processes C A B ─ turns  C A B  B A C  B C A  …
    round 2 …                                    every sample kept ──▶ latency/*.json

The rules follow MLPerf Mobile's single stream: load, first inference, warm-up, then at least so
many samples *and* at least so many seconds; the raw samples are kept and no outlier is removed.
Each cell (file × threads) runs in a separate process, since thread pools of several runtimes
disturb each other, and waits in a read while others have their turn. Where a process cannot wait
(``edgefiqa.benchmarks.latency.targets``: a phone, an external tool), a round is one turn.

A run is noisy if the machine was (``edgefiqa.measuring.host_state``: load before it, other
processes during it, temperature, governor), if a cell had more threads than there are processors,
if the medians of its rounds spread by more than ``ROUND_SPREAD`` of their median, or if its
process used more than ``IDLE_SHARE`` of a processor between its turns.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from edgefiqa.benchmarks.latency.records import build_failures, build_record, save_outcome
from edgefiqa.benchmarks.latency.rounds import LatencyRun
from edgefiqa.benchmarks.latency.rules import LatencyRules
from edgefiqa.benchmarks.latency.summary import LatencyOutcome, summary_text
from edgefiqa.benchmarks.latency.targets.base import LatencyTarget
from edgefiqa.benchmarks.latency.targets.host import HostTarget
from edgefiqa.errors import UsageError
from edgefiqa.files import write_text
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.paired_ratios import CONFIDENCE, paired_ratios

__all__ = ["SUMMARY_NAME", "LatencyRules", "measure_latency"]

SUMMARY_NAME = "latency_summary.json"

_PACKAGES = {
    "torch": ("torch", "timm"),
    "onnxruntime": ("onnxruntime",),
    "litert": ("ai-edge-litert",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "executorch": ("executorch", "torch"),
    "coreml": ("coremltools",),
}


def measure_latency(
    cells: Sequence[Cell],
    rules: LatencyRules,
    *,
    out: Path,
    target: LatencyTarget | None = None,
    photos: Sequence[Path] = (),
    confidence: float = CONFIDENCE,
    on_round: Callable[[int, int], object] = lambda round_, threads: None,
) -> LatencyOutcome:
    """Measure files on a target, in turns, and write their records.

    A cell that crashes becomes a failure record; the others finish.

    Args:
        cells: The first is the base of the ratios.
        rules: How; on a target whose processes cannot wait, a round is one turn.
        out: The run directory: ``latency/``, ``failures/``, ``logs/``, the summary.
        target: Where; None measures on this machine.
        photos: Photographs for the end-to-end phases; empty measures inference alone.
        confidence: Confidence level of the ratios' intervals.
        on_round: Called with the round and the number of threads before each group.

    Returns:
        What was written.

    Raises:
        UsageError: A photograph is missing.
        EdgeFiqaError: The target cannot be reached, or can measure none of the cells.
    """
    missing = [photo for photo in photos if not photo.is_file()]
    if missing:
        raise UsageError(
            "there is no such photograph", value=missing[0], next_step="check --images"
        )
    target = target or HostTarget()
    rules = rules if target.takes_turns else replace(rules, turns=1)
    packages = tuple(dict.fromkeys(p for cell in cells for p in _PACKAGES.get(cell.runtime, ())))
    logs = out / "logs"
    run = LatencyRun(cells, rules, target=target, logs=logs, photos=photos, on_round=on_round)
    name = f"{datetime.now(UTC).isoformat('T', 'milliseconds')}-{os.getpid()}"
    with target.opened(cells, photos, packages):
        run.measure()
        done = [turns for turns in run.taken if not turns.error]
        machine = target.machine() if done else None
    records = [
        build_record(turns, rules, run=name, device=target.device, machine=machine)
        for turns in done
        if machine is not None
    ]
    failures = build_failures([turns for turns in run.taken if turns.error])
    save_outcome(out, run.taken, records, failures, device=target.device)
    ratios = paired_ratios(records, confidence=confidence)
    outcome = LatencyOutcome(records=tuple(records), failures=tuple(failures), ratios=tuple(ratios))
    write_text(out / SUMMARY_NAME, summary_text(outcome, machine.others if machine else None))
    return outcome
