"""What a demo measures: every file's scores, their drift, and latency where there is a runtime.

Everything is a record in the output folder, as ``edgefiqa drift`` and ``bench latency`` write them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from edgefiqa.benchmarks import (
    DriftRules,
    LatencyRules,
    list_latency_cells,
    measure_latency,
    record_drift,
    score_export,
)
from edgefiqa.demo.image_sets import ImageSets
from edgefiqa.demo.settings import Settings
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.records import FailureRecord, LatencyRecord
from edgefiqa.measuring.run_directory import IMAGES_NAME, load_record, save_record
from edgefiqa.models.store import DEFAULT_MODEL
from edgefiqa.runtimes import runtime_of

__all__ = ["measure_drift", "measure_times"]

Say = Callable[[str], None]
_NO_DEVICE = "mil-reference"
"""Evaluates Core ML packages off macOS; its time says nothing about a phone."""


def _runtimes(export: Path) -> list[str]:
    """Return the runtimes that the files of an export have by default."""
    artifacts = Manifest.load(export).artifacts
    return list(dict.fromkeys(runtime_of(export / artifact.file).name for artifact in artifacts))


def measure_drift(
    source: str,
    export: Path,
    images: ImageSets,
    out: Path,
    *,
    refused: Sequence[FailureRecord],
    settings: Settings,
    say: Say,
) -> list[FailureRecord]:
    """Score the evaluation images with every file, and measure each against the float model.

    Args:
        source: The float weights.
        export: Directory of the files.
        images: The image sets.
        out: The run directory.
        refused: Files that a policy refused; they become rows of the report.
        settings: The threshold.
        say: Told each file's name.

    Returns:
        The files that could not be scored.
    """
    if not (out / IMAGES_NAME).exists():
        save_record(out, images.describe(int(Manifest.load(export).contract["size"])))
    outcomes = score_export(
        export,
        images.evaluation,
        out,
        reference=None if source == DEFAULT_MODEL else Path(source),
        runtimes=_runtimes(export),
        on_start=lambda name: say(f"    {name}"),
    )
    for failure in refused:
        save_record(out, failure)
    rules = DriftRules(threshold=settings.threshold)
    record_drift(out, images.evaluation, rules)
    return [outcome for outcome in outcomes if isinstance(outcome, FailureRecord)]


def measure_times(export: Path, out: Path, rules: LatencyRules, *, say: Say) -> bool:
    """Time the files that have a runtime here, in turns, unless the same files were timed.

    Args:
        export: Directory of the files.
        out: The run directory.
        rules: How.
        say: Told each round.

    Returns:
        Whether there was anything to do.
    """
    runtimes = [name for name in _runtimes(export) if name != _NO_DEVICE]
    cells = list_latency_cells([export], runtimes=runtimes) if runtimes else []
    if not cells or _is_timed(cells, rules, out):
        return False
    measure_latency(
        cells,
        rules,
        out=out,
        on_round=lambda round_, _threads: say(f"    round {round_ + 1} of {rules.rounds}"),
    )
    return True


def _is_timed(cells: Sequence[Cell], rules: LatencyRules, out: Path) -> bool:
    """Tell whether one run timed exactly these bytes by these rules."""
    records = [load_record(path) for path in sorted((out / "latency").glob("*.json"))]
    found = [record for record in records if isinstance(record, LatencyRecord)]
    runs = {record.rules.interleaved for record in found}
    kept = {
        (record.executed.file, record.executed.sha256, record.rules.rounds, record.rules.min_count)
        for record in found
    }
    return len(runs) == 1 and kept == {
        (cell.name, cell.sha256, rules.rounds, rules.min_count) for cell in cells
    }
