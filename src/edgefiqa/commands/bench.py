"""``edgefiqa bench``: how long the exported files take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.progress import Progress

    from edgefiqa.benchmarks import LatencyOutcome, LatencyRules, LatencyTarget, ToolTarget
    from edgefiqa.measuring.cells import Cell
    from edgefiqa.measuring.paired_ratios import PairedRatio
    from edgefiqa.measuring.records import LatencyRecord

__all__ = ["latency"]

_Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="EXPORT_DIR_OR_FILES…",
        help="Export directories, model directories or files. Ratios are relative to the first; "
        "the same file given twice shows which differences this machine can tell apart.",
    ),
]
_Threads = Annotated[
    str, typer.Option("--threads", help="Numbers of threads to measure with, such as 1,2,4.")
]
_Rounds = Annotated[
    int,
    typer.Option(
        "--rounds",
        min=1,
        help="Number of rounds; each starts a fresh process for every file. Intervals need 8.",
    ),
]
_Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Photograph or folder of photographs: also times decoding and resizing them.",
    ),
]
_Target = Annotated[
    str,
    typer.Option(
        "--target",
        help="Where to measure: host (this machine), ssh://[user@]host[:port][/folder] (needs "
        "Python 3.11, numpy, Pillow and the runtime there), adb or adb:SERIAL (a phone with the "
        "demo app).",
    ),
]
_Python = Annotated[
    str | None,
    typer.Option(
        "--python",
        help="Python interpreter on the ssh target, such as venv/bin/python.",
        show_default="python3",
    ),
]
_SshOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ssh-option",
        metavar="NAME=VALUE",
        help="Option to pass to ssh; repeat it for several.",
    ),
]
_Tool = Annotated[
    str | None,
    typer.Option(
        "--tool",
        metavar="NAME=PATH",
        help="Measure with the runtime's benchmark program on this machine: {tools}.",
    ),
]
_FailOnNoise = Annotated[
    bool, typer.Option("--fail-on-noise", help="End with exit code 1 if the run was noisy.")
]


def latency(
    files: _Files,
    out: options.OutDir,
    threads: _Threads = "1",
    rounds: _Rounds = 10,
    turns: options.Turns = 16,
    min_count: options.MinCount = 1024,
    min_seconds: options.MinSeconds = 10.0,
    images: _Images = None,
    runtime: options.Runtimes = None,
    target: _Target = "host",
    python: _Python = None,
    ssh_option: _SshOption = None,
    tool: _Tool = None,
    fail_on_noise: _FailOnNoise = False,
) -> None:
    """Time the inferences of files in turns: every sample, percentiles and paired ratios.

    Each file and number of threads has fresh processes. A file that crashes becomes a failure
    record; the others finish, and the exit code is 1. On a phone, and with a tool, files take turns
    between rounds only.

    Examples:
    `edgefiqa bench latency export --threads 1,2 --out runs/latency`

    `edgefiqa bench latency old.tflite new.tflite --images photos --out runs/ab --fail-on-noise`

    `edgefiqa bench latency export --target ssh://pi@raspberry --python venv/bin/python -o runs/pi`

    `edgefiqa bench latency export --target adb --runtime litert --out runs/phone`

    `edgefiqa bench latency a.tflite --tool benchmark_model=./benchmark_model --out runs/tool`
    """
    from edgefiqa.benchmarks import LatencyRules, list_latency_cells, measure_latency, open_target
    from edgefiqa.photo_files import find_photos

    rules = LatencyRules(
        threads=_parse_sweep(threads),
        rounds=rounds,
        turns=turns,
        min_count=min_count,
        min_seconds=min_seconds,
    )
    cells = list_latency_cells(files, runtimes=runtime or ())
    place: LatencyTarget = open_target(target, python=python, ssh_options=ssh_option or ())
    if tool is not None:
        place, cells = _open_tool(tool, target, cells)
    photos = find_photos([images]) if images is not None else []
    _say_twins(cells)
    with progress() as bar:
        show = _round_shower(bar, rules)
        outcome = measure_latency(cells, rules, out=out, target=place, photos=photos, on_round=show)
    _print_outcome(outcome)
    say(f"wrote {out}; next: edgefiqa report {out}")
    if outcome.failures or (fail_on_noise and outcome.noise):
        raise typer.Exit(1)


def _parse_sweep(text: str) -> tuple[int, ...]:
    from edgefiqa.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        what, allowed = "--threads is no list of numbers", "such as 1,2,4"
        raise UsageError(what, value=text, allowed=allowed) from None


def _open_tool(tool: str, target: str, cells: list[Cell]) -> tuple[ToolTarget, list[Cell]]:
    from edgefiqa.benchmarks import parse_tool
    from edgefiqa.errors import UsageError

    if target != "host":
        raise UsageError("--tool measures on this machine", value=target, allowed="--target host")
    place = parse_tool(tool)
    return place, place.cells_of(cells)


def _say_twins(cells: Sequence[Cell]) -> None:
    for cell in cells:
        for twin in cell.twins:
            say(f"{twin.file} has the bytes of {cell.name}: measured once, recorded for both")


def _round_shower(bar: Progress, rules: LatencyRules) -> Callable[[int, int], None]:
    """Return what shows on a progress bar which round runs, with how many threads."""
    task = bar.add_task("", total=rules.rounds * len(rules.threads))

    def show(round_: int, count: int) -> None:
        where = f"round {round_ + 1} of {rules.rounds}, {count} thread{'s' * (count > 1)}"
        # The first call starts a round; each later one also ends the round before.
        bar.update(task, advance=1 if bar.tasks[0].description else 0, description=where)

    return show


def _print_outcome(outcome: LatencyOutcome) -> None:
    if outcome.records:
        print_table(
            "Latency, ms",
            ("file", "threads", "phase", "n", "p50", "p90", "p99", "mean", "IQR", "peak MB"),
            [row for record in outcome.records for row in _record_rows(record)],
        )
    if outcome.ratios:
        print_table(
            "Time relative to the first file, paired by round",
            ("file", "base", "threads", "ratio", "verdict"),
            [
                (pair.file, pair.base, str(pair.threads), _with_interval(pair), pair.verdict)
                for pair in outcome.ratios
            ],
        )
    for failure in outcome.failures:
        say(f"not measured: {failure.cell}: {failure.error}")
    for phrase in outcome.noise:
        say(f"noisy: {phrase}")


def _record_rows(record: LatencyRecord) -> list[tuple[str, ...]]:
    from edgefiqa.benchmarks import summarise

    rows = []
    peak = f"{(record.peak_rss_bytes or 0) / 1e6:.0f}" if record.peak_rss_bytes else "–"
    for phase, samples_ms in record.samples_ms.items():
        times = summarise(samples_ms)
        values = (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms, times.iqr_ms)
        numbers = tuple(f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values)
        cell, threads = record.executed.cell, str(record.executed.threads)
        rows.append((cell, threads, phase.value, str(times.n), *numbers, peak))
    return rows


def _with_interval(pair: PairedRatio) -> str:
    ratio = pair.ratio
    if ratio.value is None:
        return "–"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f} (no interval: {ratio.reason})"
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
