"""Does a latency run repeat? A file against itself, and against itself made 10 % slower.

``edgefiqa study latency-repeats FILE --out RECORD`` makes ordinary interleaved runs of three cells:
A; the same bytes again; the same bytes whose every inference is followed, inside the timed call, by
a loop that takes 10 % of the processor time that inferences lately took. The interval of the second
should contain 1, that of the third lie above it.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.benchmarks.latency.run import SUMMARY_NAME, LatencyRules, measure_latency
from edgefiqa.benchmarks.latency.summary import LatencyOutcome, summarise
from edgefiqa.benchmarks.latency.targets.host import HostTarget
from edgefiqa.benchmarks.studies.records import (
    LatencyRepeatsRecord,
    Repeat,
    RepeatRatio,
    RepeatRules,
)
from edgefiqa.benchmarks.studies.slowed_process import SLOWDOWN, SLOWED
from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import sha256_of, write_text
from edgefiqa.measuring.paired_ratios import PairedRatio
from edgefiqa.measuring.records import LatencyPhase

__all__ = ["EXPECTED", "WANTED", "is_enough", "measure_repeats", "repeat_line"]

EXPECTED = {"same": "no difference", "slower": "slower"}
"""What the interval of each comparison should say."""

WANTED = {"same": 0.95, "slower": 0.90}
"""In which share of the repeats it must, at least."""

_PROCESS = (sys.executable, "-m", "edgefiqa.benchmarks.studies.slowed_process")


def measure_repeats(
    file: Path,
    rules: LatencyRules,
    out: Path,
    *,
    repeats: int,
    on_repeat: Callable[[Repeat, int], object] = lambda _repeat, _number: None,
) -> LatencyRepeatsRecord:
    """Measure until a record holds so many runs, and write it after each.

    Args:
        file: An exported file.
        rules: Rules of each run.
        out: The record; runs of the same file by the same rules that it holds are kept.
        repeats: How many.
        on_repeat: Told each run that was made, and its number.

    Raises:
        EdgeFiqaError: If a cell fails.
    """
    record = _known(out, _empty(file, rules))
    for number in range(len(record.repeats), repeats):
        with tempfile.TemporaryDirectory() as folder:
            repeat = _repeat_once(file, rules, Path(folder))
        record = _with(record, repeat)
        write_text(out, record.model_dump_json(indent=1) + "\n")
        on_repeat(repeat, number + 1)
    return record


def is_enough(record: LatencyRepeatsRecord) -> bool:
    """Tell whether enough runs said what they should."""
    found = {"same": record.same, "slower": record.slower}
    return all(found[name] >= share * record.n for name, share in WANTED.items())


def repeat_line(repeat: Repeat, number: int) -> str:
    """Return a run in one line."""
    parts = [f"{number:3d}"]
    for name, ratio in (("same", repeat.same), ("slower", repeat.slower)):
        interval = f"[{ratio.low:.4f}, {ratio.high:.4f}]" if ratio.low else "no interval"
        parts.append(f"{name} {ratio.ratio:.4f} {interval} {ratio.verdict}")
    others = repeat.others_share
    return "  ".join(parts) + ("" if others is None else f"  (others used {others:.0%})")


def _empty(file: Path, rules: LatencyRules) -> LatencyRepeatsRecord:
    return LatencyRepeatsRecord(
        file=file.name,
        sha256=sha256_of(file),
        slowdown=SLOWDOWN,
        rules=RepeatRules.model_validate(vars(rules)),
        n=0,
        same=0,
        slower=0,
        repeats=(),
    )


def _known(out: Path, empty: LatencyRepeatsRecord) -> LatencyRepeatsRecord:
    """Return the record of an earlier call of the same measurement, or an empty one."""
    try:
        known = LatencyRepeatsRecord.model_validate_json(out.read_bytes())
    except (FileNotFoundError, ValidationError):
        return empty
    head = {"n": 0, "same": 0, "slower": 0, "repeats": ()}
    return known if known.model_copy(update=head) == empty else empty


def _with(record: LatencyRepeatsRecord, repeat: Repeat) -> LatencyRepeatsRecord:
    repeats = (*record.repeats, repeat)
    said = {
        "same": _count(EXPECTED["same"], [repeat.same for repeat in repeats]),
        "slower": _count(EXPECTED["slower"], [repeat.slower for repeat in repeats]),
    }
    return record.model_copy(update={"n": len(repeats), **said, "repeats": repeats})


def _count(verdict: str, ratios: Sequence[RepeatRatio]) -> int:
    return sum(ratio.verdict == verdict for ratio in ratios)


def _repeat_once(file: Path, rules: LatencyRules, folder: Path) -> Repeat:
    """Measure the three cells in turns.

    Args:
        file: An exported file.
        rules: How.
        folder: For the run directory and the link to the file.
    """
    slowed = folder / f"{SLOWED}{file.suffix}"
    slowed.symlink_to(file.resolve())
    # One path again is another cell: twins of equal bytes would be measured once.
    cells = list_latency_cells([file, file, slowed])
    outcome = measure_latency(cells, rules, out=folder / "run", target=HostTarget(_PROCESS))
    if outcome.failures:
        raise EdgeFiqaError("a cell failed", value=outcome.failures[0].error)
    summary = json.loads((folder / "run" / SUMMARY_NAME).read_text(encoding="utf-8"))
    return _describe(outcome, summary["others_share"])


def _describe(outcome: LatencyOutcome, others_share: float | None) -> Repeat:
    first, same, slower = outcome.records[0], *outcome.ratios
    return Repeat(
        runtime=first.executed.runtime_version,
        host=first.host,
        host_after=first.host_after,
        others_share=others_share,
        noise=tuple(outcome.noise),
        p50_ms=tuple(
            summarise(record.samples_ms[LatencyPhase.INFERENCE]).p50_ms
            for record in outcome.records
        ),
        same=_ratio(same),
        slower=_ratio(slower),
    )


def _ratio(pair: PairedRatio) -> RepeatRatio:
    return RepeatRatio(
        rounds=tuple(round(value, 6) for value in pair.rounds),
        ratio=pair.ratio.value,
        low=pair.ratio.low,
        high=pair.ratio.high,
        confidence=pair.confidence,
        verdict=pair.verdict,
    )
