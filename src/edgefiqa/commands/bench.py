"""``edgefiqa bench``: how long the exported files take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from edgefiqa.benchmarks.latency_summary import LatencyOutcome
    from edgefiqa.benchmarks.paired_ratios import PairedRatio
    from edgefiqa.benchmarks.record_types import LatencyRecord

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
    fail_on_noise: Annotated[
        bool, typer.Option("--fail-on-noise", help="Exit code 1 if the run was noisy.")
    ] = False,
) -> None:
    """Measure files in turns on this machine: every sample, percentiles, paired ratios.

    Each file and number of threads has fresh processes. A file that crashes is a failure record;
    the others finish, and the exit code is 1.

    Examples:
    `edgefiqa bench latency export --threads 1,2 --out runs/latency`

    `edgefiqa bench latency old.tflite new.tflite --images photos --out runs/ab --fail-on-noise`
    """
    from edgefiqa.benchmarks.latency import LatencyRules, measure_latency
    from edgefiqa.benchmarks.latency_cells import list_latency_cells

    rules = LatencyRules(
        threads=_sweep(threads),
        rounds=rounds,
        turns=turns,
        min_count=min_count,
        min_seconds=min_seconds,
    )
    cells = list_latency_cells(files, runtimes=runtime or ())
    for cell in cells:
        for twin in cell.twins:
            say(f"{twin.file} has the bytes of {cell.name}: measured once, recorded for both")
    with progress() as bar:
        task = bar.add_task("", total=rounds * len(rules.threads))

        def show(round_: int, count: int) -> None:
            where = f"round {round_ + 1} of {rounds}, {count} thread{'s' * (count > 1)}"
            bar.update(task, advance=1 if bar.tasks[0].description else 0, description=where)

        photos = _photos(images) if images is not None else []
        outcome = measure_latency(cells, rules, out=out, photos=photos, on_round=show)
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
    from edgefiqa.benchmarks.latency_summary import summarise

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
