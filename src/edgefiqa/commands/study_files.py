"""``edgefiqa study`` …: studies of exported files, and the documents made from all studies."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say, show_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgefiqa.benchmarks.studies import Repeat, RoutesRecord

__all__ = ["arm", "demo_files", "documents", "latency_repeats", "startup", "tflite_routes"]


def tflite_routes(
    files: Annotated[
        list[Path], typer.Argument(help="Two or more .tflite files; ratios are to the first one.")
    ],
    out: options.RecordFile = None,
    threads: options.Threads = 1,
    rounds: options.Rounds = 5,
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="Number of timed inferences in each round.")
    ] = 40,
    as_json: options.Json = False,
) -> None:
    """Compare the inference time of several .tflite files, each round in a fresh process.

    Ratios are paired: each round's median relative to the first file's in the same round.

    Example: `edgefiqa study tflite-routes old.tflite new.tflite --rounds 10 --out record.json`
    """
    from edgefiqa.benchmarks.studies import measure_routes

    with progress() as bar:
        task = bar.add_task("rounds", total=rounds)
        record = measure_routes(
            files,
            threads=threads,
            rounds=rounds,
            runs=runs,
            on_round=lambda done: bar.update(task, completed=done),
        )
    if show_record(record.model_dump_json(indent=2), out, as_json=as_json):
        heads = ("file", "sha256", "median ms", "p90 ms", "ratio (min to max)")
        print_table(f"{record.runtime}, {threads} thread(s)", heads, _route_rows(record))


def _route_rows(record: RoutesRecord) -> Iterator[tuple[str, ...]]:
    for file in record.files:
        ratios = file.paired_ratios
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        yield (
            file.file,
            file.sha256[:12],
            f"{file.median_ms:.2f}",
            f"{file.p90_ms:.2f}",
            spread,
        )


def startup(
    model: Annotated[Path, typer.Argument(help="A .tflite file.")],
    photo: Annotated[Path, typer.Argument(help="A photograph.")],
    out: options.RecordFile = None,
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="Number of timed runs, after one that is not.")
    ] = 10,
    as_json: options.Json = False,
) -> None:
    """Measure the size of a [tflite] installation and the time until its first score.

    Installs this checkout into an empty virtual environment, which needs a package index.

    Example: `edgefiqa study startup student.tflite photo.jpg --out startup.json`
    """
    from edgefiqa.benchmarks.studies import measure_startup

    record = measure_startup(model, photo, runs=runs, tell=say)
    if show_record(record.model_dump_json(indent=2), out, as_json=as_json):
        typer.echo(
            f"{record.installed_mb:.0f} MB installed; first score after "
            f"{record.median_seconds:.2f} s (median of {record.runs}), at most "
            f"{record.max_seconds:.2f} s; file {record.sha256[:12]}"
        )


def latency_repeats(
    file: Annotated[Path, typer.Argument(help="An exported file.")],
    out: Annotated[
        Path, options.out("File of the record; the runs that it already holds are kept.")
    ],
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Number of latency runs in the record.")
    ] = 20,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Number of rounds in each latency run.")
    ] = 10,
    turns: options.Turns = 16,
    min_count: options.MinCount = 1024,
    min_seconds: options.MinSeconds = 10.0,
    as_json: options.Json = False,
) -> None:
    """Check that latency runs tell noise from a change of 10 %.

    Each run times a file, the same file again, and the same file made 10 % slower. Exit code 1 if
    too few runs find no difference in the one and a difference in the other.

    Example: `edgefiqa study latency-repeats export/student.onnx --out latency_repeats.json`
    """
    from edgefiqa.benchmarks import LatencyRules
    from edgefiqa.benchmarks.studies import is_enough, measure_repeats, repeat_line

    rules = LatencyRules(rounds=rounds, turns=turns, min_count=min_count, min_seconds=min_seconds)

    def show(repeat: Repeat, number: int) -> None:
        say(repeat_line(repeat, number))

    record = measure_repeats(file, rules, out, repeats=repeats, on_repeat=show)
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    else:
        typer.echo(f"A against A: the interval contains 1 in {record.same} of {record.n}")
        typer.echo(f"A against itself, 10 % slower: flagged in {record.slower} of {record.n}")
    if not is_enough(record):
        raise typer.Exit(1)


def arm(
    export: Annotated[
        Path, typer.Argument(help="Export directory with a manifest and golden vectors.")
    ],
    root: Annotated[
        Path,
        typer.Option(
            "--root", help="Folder of the ARM programs; benchmarks/arm/install.sh prints its path."
        ),
    ],
    out: Annotated[Path, options.out("Folder for the record and its table.")],
    processor: Annotated[
        list[str] | None,
        typer.Option(
            "--processor",
            help="Processor model to emulate; repeat the option for several: {processors}.",
            show_default="all of them",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare an export's golden scores on emulated ARM processors with this machine's.

    Exit code 1 if a score is beyond its golden tolerance. Nothing is timed.

    Example: `edgefiqa study arm export --root "$(benchmarks/arm/install.sh)" --out runs/arm`
    """
    from edgefiqa.benchmarks.studies import (
        EmulatorRoot,
        Processor,
        arm_table,
        check_export,
        write_arm_record,
    )
    from edgefiqa.commands.choices import parse_choice

    chosen = [parse_choice(Processor, name, what="processor") for name in processor or Processor]
    record = check_export(export, EmulatorRoot(path=root), tuple(chosen), tell=say)
    write_arm_record(record, out)
    typer.echo(record.model_dump_json(indent=2) if as_json else arm_table(record))
    if not record.is_within:
        raise typer.Exit(1)


def demo_files(
    demo: Annotated[Path, typer.Argument(help="Folder of a finished `edgefiqa demo`.")],
    out: Annotated[Path, options.out("Run directory to write to; it must be empty.")],
) -> None:
    """Measure latency and drift of the last demo's files again, by the full rules.

    `edgefiqa study documents` then takes the records into the documents.

    Example: `edgefiqa study demo-files runs/demo --out runs/bench`
    """
    from edgefiqa.demo.remeasure import remeasure

    typer.echo(remeasure(demo, out, say=say))


def documents(
    demo: Annotated[
        Path | None,
        typer.Option("--demo", help="Demo whose export becomes a committed record; needs --run."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Run directory of `edgefiqa study demo-files` to take records from."
        ),
    ] = None,
) -> None:
    """Write the tables of this checkout's documents from benchmarks/records.

    A table whose record was measured on other weights than the default student's is left as it is;
    the command that measures it again is printed, and the exit code is 1.

    Examples:
    `edgefiqa study documents`

    `edgefiqa study documents --demo runs/demo --run runs/bench`
    """
    from edgefiqa.benchmarks.studies import write_documents
    from edgefiqa.demo.keep_records import keep_records
    from edgefiqa.errors import UsageError

    if (demo is None) != (run is None):
        raise UsageError("--demo and --run belong together", next_step="give both or neither")
    if demo is not None and run is not None:
        keep_records(demo, run)
    faults = write_documents()
    for fault in faults:
        say(f"error: {fault}")
    if faults:
        raise typer.Exit(1)
