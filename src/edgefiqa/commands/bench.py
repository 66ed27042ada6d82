"""``edgefiqa bench``: how long the exported files take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from edgefiqa.benchmarks.latency.cells import LatencyCell
    from edgefiqa.benchmarks.latency.summary import LatencyOutcome
    from edgefiqa.benchmarks.latency.targets.tool import ToolTarget
    from edgefiqa.measuring.paired_ratios import PairedRatio
    from edgefiqa.measuring.records import LatencyRecord

__all__ = ["app", "latency"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure how long the exported files take."""


@app.command()
def latency(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="EXPORT_DIR_OR_FILES…",
            help="Export directories, model directories, files. The first is the base of the "
            "ratios; the same file twice shows what the machine can tell apart.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the records.")],
    threads: Annotated[str, typer.Option(help="The sweep, such as 1,2,4.")] = "1",
    rounds: Annotated[
        int, typer.Option(min=1, help="Fresh processes of each file; 8 or more for intervals.")
    ] = 10,
    turns: Annotated[int, typer.Option(min=1, help="Of each file in a round.")] = 16,
    min_count: Annotated[int, typer.Option(min=1, help="Fewest samples of a cell.")] = 1024,
    min_seconds: Annotated[float, typer.Option(min=0, help="Shortest time of a cell.")] = 10.0,
    images: Annotated[
        Path | None,
        typer.Option(help="A photograph or a folder of them: times decoding and resizing too."),
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="Only this runtime; repeat for more.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="Where: host; ssh://[user@]host[:port][/folder], which needs Python 3.11, numpy, "
            "Pillow and the runtime there; adb or adb:SERIAL, a phone with the demo app."
        ),
    ] = "host",
    python: Annotated[
        str | None, typer.Option(help="With ssh: the Python there, such as venv/bin/python.")
    ] = None,
    ssh_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="With ssh: one of its options; repeat for more."),
    ] = None,
    tool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Measure by benchmark_model (.tflite) or executor_runner (.pte) on this machine.",
        ),
    ] = None,
    fail_on_noise: Annotated[
        bool, typer.Option("--fail-on-noise", help="Exit code 1 if the run was noisy.")
    ] = False,
) -> None:
    """Measure files in turns, here or elsewhere: every sample, percentiles, paired ratios.

    Each file and number of threads has fresh processes. A file that crashes is a failure record;
    the others finish, and the exit code is 1. A phone and a tool have no turns within a round.

    Examples:
    `edgefiqa bench latency export --threads 1,2 --out runs/latency`

    `edgefiqa bench latency old.tflite new.tflite --images photos --out runs/ab --fail-on-noise`

    `edgefiqa bench latency export --target ssh://pi@raspberry --python venv/bin/python -o runs/pi`

    `edgefiqa bench latency export --target adb --runtime litert --out runs/phone`

    `edgefiqa bench latency a.tflite --tool benchmark_model=./benchmark_model --out runs/tool`
    """
    from edgefiqa.benchmarks.latency.cells import list_latency_cells
    from edgefiqa.benchmarks.latency.run import LatencyRules, measure_latency
    from edgefiqa.benchmarks.latency.targets import open_target

    rules = LatencyRules(
        threads=_sweep(threads),
        rounds=rounds,
        turns=turns,
        min_count=min_count,
        min_seconds=min_seconds,
    )
    cells = list_latency_cells(files, runtimes=runtime or ())
    place = open_target(target, python=python, ssh_options=ssh_option or ())
    if tool is not None:
        place, cells = _with_tool(tool, target, cells)
    for cell in cells:
        for twin in cell.twins:
            say(f"{twin.file} has the bytes of {cell.name}: measured once, recorded for both")
    with progress() as bar:
        task = bar.add_task("", total=rounds * len(rules.threads))

        def show(round_: int, count: int) -> None:
            where = f"round {round_ + 1} of {rounds}, {count} thread{'s' * (count > 1)}"
            bar.update(task, advance=1 if bar.tasks[0].description else 0, description=where)

        photos = _photos(images) if images is not None else []
        outcome = measure_latency(cells, rules, out=out, target=place, photos=photos, on_round=show)
    _print(outcome)
    say(f"wrote {out}; next: edgefiqa report {out}")
    if outcome.failures or (fail_on_noise and outcome.noise):
        raise typer.Exit(1)


def _sweep(text: str) -> tuple[int, ...]:
    from edgefiqa.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        what, allowed = "--threads is no list of numbers", "such as 1,2,4"
        raise UsageError(what, value=text, allowed=allowed) from None


def _with_tool(
    tool: str, target: str, cells: list[LatencyCell]
) -> tuple[ToolTarget, list[LatencyCell]]:
    from edgefiqa.benchmarks.latency.targets import parse_tool
    from edgefiqa.errors import UsageError

    if target != "host":
        raise UsageError("--tool measures on this machine", value=target, allowed="--target host")
    place = parse_tool(tool)
    return place, place.cells_of(cells)


def _photos(images: Path) -> list[Path]:
    from edgefiqa.errors import UsageError

    if not images.is_dir():
        return [images]
    endings = {".jpg", ".jpeg", ".png", ".webp"}
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in endings)
    if not found:
        allowed = ", ".join(sorted(endings))
        raise UsageError("no photograph in this folder", value=images, allowed=allowed)
    return found


def _print(outcome: LatencyOutcome) -> None:
    if outcome.records:
        print_table(
            "Latency, ms",
            ("file", "threads", "phase", "n", "p50", "p90", "p99", "mean", "IQR", "peak MB"),
            [row for record in outcome.records for row in _rows(record)],
        )
    if outcome.ratios:
        print_table(
            "Time relative to the first file, paired by round",
            ("file", "base", "threads", "ratio", "verdict"),
            [
                (own.file, own.base, str(own.threads), _with_interval(own), own.verdict)
                for own in outcome.ratios
            ],
        )
    for failure in outcome.failures:
        say(f"not measured: {failure.cell}: {failure.error}")
    for phrase in outcome.noise:
        say(f"noisy: {phrase}")


def _rows(record: LatencyRecord) -> list[tuple[str, ...]]:
    from edgefiqa.benchmarks.latency.summary import summarise

    rows = []
    peak = f"{(record.peak_rss_bytes or 0) / 1e6:.0f}" if record.peak_rss_bytes else "–"
    for phase, samples_ms in record.samples_ms.items():
        own = summarise(samples_ms)
        values = (own.p50_ms, own.p90_ms, own.p99_ms, own.mean_ms, own.iqr_ms)
        numbers = tuple(f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in values)
        cell, threads = record.executed.cell, str(record.executed.threads)
        rows.append((cell, threads, phase.value, str(own.n), *numbers, peak))
    return rows


def _with_interval(own: PairedRatio) -> str:
    if own.ratio.value is None:
        return "–"
    if own.ratio.low is None or own.ratio.high is None:
        return f"{own.ratio.value:.3f} (no interval: {own.ratio.reason})"
    return f"{own.ratio.value:.3f} [{own.ratio.low:.3f}, {own.ratio.high:.3f}]"
