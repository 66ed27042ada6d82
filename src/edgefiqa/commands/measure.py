"""``edgefiqa drift``, ``waterfall``, ``layers``, ``gate``, ``compare`` and ``report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefiqa.measuring.records import DriftRecord, FailureRecord, ScoreRecord

__all__ = ["compare", "drift", "gate", "layers", "report", "waterfall"]

_Export = Annotated[
    Path,
    typer.Argument(help="Export directory that `edgefiqa convert` or `edgefiqa quantize` wrote."),
]
_Images = Annotated[
    Path, typer.Option("--images", help="Image set, or photographs, to score with every file.")
]
_Columns = Annotated[
    Path | None,
    typer.Option(
        "--columns",
        help="CSV file with further slices: the image in its first column, your values in others.",
    ),
]
_Splits = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        help="Split of the image set to use; repeat the option for several: {splits}.",
        show_default="those held back from training, else all",
    ),
]
_Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Score from which your app accepts a photograph; counts the decisions that change.",
        show_default="none: decisions are not counted",
    ),
]


def drift(
    export: _Export,
    images: _Images,
    out: options.ResumedDir,
    labels: options.Labels = None,
    columns: _Columns = None,
    split: _Splits = None,
    limit: options.Limit = None,
    reference: options.Reference = None,
    runtime: options.Runtimes = None,
    threshold: _Threshold = None,
    resamples: options.Resamples = 1000,
    threads: options.Threads = 1,
) -> None:
    """Compare the scores of every exported file, each in its runtime, with the float model's.

    A file that crashes becomes a failure record; the others finish, and the exit code is 1. An
    interrupted run continues.

    Example: `edgefiqa drift export --images SET --threshold 0.5 --out runs/drift`
    """
    from edgefiqa.benchmarks import DriftRules, record_drift, score_export
    from edgefiqa.measuring.image_source import SourceSpec

    splits = tuple(split or ())
    spec = SourceSpec(path=images, labels=labels, columns=columns, splits=splits, limit=limit)
    with progress() as bar:
        task = bar.add_task("reading the images", total=None)
        outcomes = score_export(
            export,
            spec,
            out,
            reference=reference,
            runtimes=runtime or (),
            threads=threads,
            on_start=lambda name: bar.update(task, description=f"scoring with {name}"),
        )
        bar.update(task, description="measuring drift")
        rules = DriftRules(threshold=threshold, resamples=resamples)
        records = record_drift(out, spec, rules)
    _print_drift(records)
    if _say_failures(outcomes, out):
        raise typer.Exit(1)


def _say_failures(outcomes: Sequence[ScoreRecord | FailureRecord], out: Path) -> int:
    failed = [outcome for outcome in outcomes if outcome.measurement == "failure"]
    for failure in failed:
        say(f"not measured: {failure.cell}: {failure.error}")
    say(f"wrote {out}; next: edgefiqa report {out}")
    return len(failed)


def _print_drift(records: list[DriftRecord]) -> None:
    from edgefiqa.benchmarks import with_interval
    from edgefiqa.measuring.figures import FIGURES

    names = {"delta_srcc": "+.4f", "srcc_reference": ".5f", "bias": "+.1e", "p99_error": ".1e"}
    rows = []
    for record in records:
        figures = record.slices["all"].figures
        cells = [with_interval(figures[name], form) for name, form in names.items()]
        rows.append([record.executed.cell, record.executed.precision, *cells])
    titles = [FIGURES[name].title for name in names]
    print_table("Drift to the float model", ("file", "precision", *titles), rows)


def waterfall(
    records: options.RunDirectory,
    origin: Annotated[
        Path | None,
        typer.Option(
            "--origin",
            help="Run on the original photographs, if RUN scored pixels that a device decoded.",
        ),
    ] = None,
    device: Annotated[
        Path | None,
        typer.Option("--device", help="Run of the same files on another processor architecture."),
    ] = None,
) -> None:
    """Attribute each file's drift to stages: decoding, rewriting, conversion, int8, runtime.

    Prints a table for each file, and writes its record and its picture (SVG) into RUN/waterfall.

    Example: `edgefiqa waterfall runs/phone_pixels --origin runs/drift --device runs/phone`
    """
    from edgefiqa.benchmarks import waterfall_chart, waterfall_table, waterfalls_of
    from edgefiqa.files import write_text
    from edgefiqa.measuring.run_directory import load_run, save_record

    others = [load_run(path) if path else None for path in (origin, device)]
    for record in waterfalls_of(load_run(records), origin=others[0], device=others[1]):
        picture = save_record(records, record).with_suffix(".svg")
        write_text(picture, waterfall_chart(record))
        typer.echo(f"{record.name}\n\n{waterfall_table(record)}\n")
        say(f"picture: {picture}")


def layers(
    export: _Export,
    file: Annotated[str, typer.Argument(help="Name of an .onnx or .tflite file in it.")],
    images: _Images,
    out: Annotated[
        Path | None, options.out("Run directory to write the record to.", default="none")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Float file of the export to compare with, tensor by tensor.",
            show_default="the model in torch",
        ),
    ] = None,
    reference: options.Reference = None,
    limit: Annotated[
        int, options.limit("Use at most this many images, evenly spaced; a few are enough.")
    ] = 4,
    min_snr: Annotated[
        float | None,
        typer.Option(
            "--min-snr",
            help="Signal-to-noise ratio, in dB, below which a layer is called wrong.",
            show_default="60 for fp32, 30 for fp16, 25 for int8",
        ),
    ] = None,
) -> None:
    """Compare each layer of a file with the float model and name the first one that is wrong.

    Shows each layer's signal-to-noise ratio (SNR) and cosine. Exit code 1 if a layer is wrong.

    Example: `edgefiqa layers export student_w8a8.tflite --images SET`
    """
    from edgefiqa.benchmarks import layers_of_export, layers_table
    from edgefiqa.measuring.image_source import SourceSpec
    from edgefiqa.measuring.run_directory import save_record

    record = layers_of_export(
        export,
        file,
        SourceSpec(path=images, limit=limit),
        reference=reference,
        against=against,
        min_snr_db=min_snr,
    )
    typer.echo(layers_table(record))
    if out is not None:
        say(f"wrote {save_record(out, record)}")
    bound = f"{record.min_snr_db:g} dB"
    if record.first_wrong is not None:
        say(f"the first layer below {bound}: {record.first_wrong}")
        raise typer.Exit(1)
    say(f"{len(record.layers)} layers, none below {bound}")


def gate(
    records: options.RunDirectory,
    policy: options.Policy = "quantised",
    junit: Annotated[
        Path | None, typer.Option("--junit", help="JUnit XML file to write, for CI.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Export directory: also check that it still holds the files that were measured.",
        ),
    ] = None,
) -> None:
    """Check a run's records against a policy: exit code 0 if every rule holds, 1 if not.

    Prints one line for each rule and file. A figure that is missing fails its rule.

    Example: `edgefiqa gate runs/drift --policy quantised --junit gate.xml`
    """
    from edgefiqa.measuring.gate import check_gate, check_hashes, verdict_line, write_junit
    from edgefiqa.measuring.policy import load_policy
    from edgefiqa.measuring.run_directory import load_run

    rules, run = load_policy(policy), load_run(records)
    verdicts = check_gate(run, rules)
    if export is not None:
        verdicts += check_hashes(run, export)
    for verdict in verdicts:
        typer.echo(verdict_line(verdict))
    if junit is not None:
        write_junit(verdicts, junit, name=rules.name)
    failed = sum(not verdict.passed for verdict in verdicts)
    say(f"{rules.name}: {len(verdicts) - failed} passed, {failed} failed")
    if failed:
        raise typer.Exit(1)


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Run directory from before.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Run directory from now.")],
    resamples: options.Resamples = 1000,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Score from which a photograph is accepted.",
            show_default="the threshold that NEW was measured with",
        ),
    ] = None,
    confidence: Annotated[
        float,
        typer.Option(
            "--confidence", min=0.5, max=0.9999, help="Confidence level of the paired intervals."
        ),
    ] = 0.99,
    as_json: options.Json = False,
) -> None:
    """Compare two runs on the same images and name the figures that became worse.

    A regression is a change whose whole paired interval lies on the worse side. Exit code 1 if
    there is one.

    Example: `edgefiqa compare runs/yesterday runs/today`
    """
    from dataclasses import asdict

    from edgefiqa.benchmarks import change_line, compare_runs
    from edgefiqa.measuring.run_directory import load_run

    changes = compare_runs(
        load_run(old),
        load_run(new),
        resamples=resamples,
        confidence=confidence,
        threshold=threshold,
    )
    if as_json:
        rows = [
            asdict(found) | {"change": found.change.model_dump() if found.change else None}
            for found in changes
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for change in changes:
            typer.echo(change_line(change))
    failed = sum(change.failed for change in changes)
    say(f"{failed} regression(s) in {len(changes)} comparisons")
    if failed:
        raise typer.Exit(1)


def report(
    records: options.RunDirectory,
    out: Annotated[
        Path | None, options.out("Folder to write the report to.", default="the run directory")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="Also check a policy: a YAML file, or one of {policies}.",
            show_default="none",
        ),
    ] = None,
) -> None:
    """Write a run's records as report.html, report.md and report.json.

    The page is one file that loads nothing from the network.

    Example: `edgefiqa report runs/drift --policy quantised`
    """
    from edgefiqa.benchmarks import write_report
    from edgefiqa.measuring.policy import load_policy
    from edgefiqa.measuring.run_directory import load_run

    rules = load_policy(policy) if policy else None
    for path in write_report(load_run(records), out or records, policy=rules):
        typer.echo(path)
