"""Numbers to sign off: ``edgefiqa drift``, ``waterfall``, ``layers``, ``gate``, ``report`` …."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from edgefiqa.measuring.records import DriftRecord

__all__ = ["compare", "drift", "gate", "layers", "report", "waterfall"]

_RUN = typer.Argument(metavar="RUN", help="Folder of records, as `edgefiqa drift` writes it.")
_POLICY = typer.Option(help="A YAML file, or the name of a policy that ships with the package.")


def drift(
    export: Annotated[Path, typer.Argument(help="What `edgefiqa convert` or `quantize` wrote.")],
    images: Annotated[Path, typer.Option(help="An image set, or a folder of photographs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the records.")],
    labels: Annotated[
        Path | None, typer.Option(help="Label file of the photographs; without: drift to float.")
    ] = None,
    columns: Annotated[
        Path | None, typer.Option(help="CSV: the image, then columns of your own to slice by.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Splits of an image set; those held back by default.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many images, evenly spaced.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Model directory of the float weights; the package's by default."),
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="Only this runtime; repeat for more.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Your app's: counts decisions that flip.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Of each bootstrap.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="Of one inference.")] = 1,
) -> None:
    """Score images with every exported file, each in its own runtime, against the float model.

    Interrupt it freely: the same command goes on. A file that crashes is a failure record; the
    others finish, and the exit code is 1.

    Example: `edgefiqa drift export --images SET --threshold 0.5 --out runs/drift`
    """
    from edgefiqa.benchmarks.drift.run import DriftRules, measure_run
    from edgefiqa.benchmarks.drift.scoring import score_export
    from edgefiqa.benchmarks.drift.waterfall import waterfalls_of
    from edgefiqa.measuring.image_source import SourceSpec, open_source
    from edgefiqa.measuring.run_directory import load_run, save_record

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
        records = list(measure_run(load_run(out), rules, source=open_source(spec)))
        bar.update(task, description="attributing it to stages")
        for record in waterfalls_of(load_run(out), resamples=resamples):
            save_record(out, record)
    _print_drift(records)
    failed = [own for own in outcomes if own.measurement == "failure"]
    for failure in failed:
        say(f"not measured: {failure.cell}: {failure.error}")
    say(f"wrote {out}; next: edgefiqa report {out}")
    if failed:
        raise typer.Exit(1)


def _print_drift(records: list[DriftRecord]) -> None:
    from edgefiqa.benchmarks.report.data import with_interval
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
    records: Annotated[Path, _RUN],
    origin: Annotated[
        Path | None,
        typer.Option(
            help="A run on the original photographs, where RUN scored a device's decoded pixels."
        ),
    ] = None,
    device: Annotated[
        Path | None, typer.Option(help="A run of the same files on another architecture.")
    ] = None,
) -> None:
    """Attribute each file's drift to stages: decoding, rewriting, conversion, int8, runtime, ….

    Prints a table a file, and writes its record and its picture (SVG) into RUN/waterfall.

    Example: `edgefiqa waterfall runs/phone_pixels --origin runs/drift --device runs/phone`
    """
    from edgefiqa.benchmarks.drift.waterfall import waterfall_table, waterfalls_of
    from edgefiqa.benchmarks.report.charts import waterfall_chart
    from edgefiqa.files import write_text
    from edgefiqa.measuring.run_directory import load_run, save_record

    others = [load_run(path) if path else None for path in (origin, device)]
    for record in waterfalls_of(load_run(records), origin=others[0], device=others[1]):
        picture = save_record(records, record).with_suffix(".svg")
        write_text(picture, waterfall_chart(record))
        typer.echo(f"{record.name}\n\n{waterfall_table(record)}\n")
        say(f"picture: {picture}")


def layers(
    export: Annotated[Path, typer.Argument(help="What `edgefiqa convert` or `quantize` wrote.")],
    file: Annotated[str, typer.Argument(help="An .onnx or .tflite file in it.")],
    images: Annotated[Path, typer.Option(help="An image set, or photographs.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory for the record.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A float file of the export, tensor by tensor; torch by default."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Model directory of the float weights; the package's by default."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Images; a few are enough.")] = 4,
    min_snr: Annotated[
        float | None,
        typer.Option(help="A layer below is wrong, in dB.", show_default="60 fp32, 30 fp16, 25"),
    ] = None,
) -> None:
    """Compare each layer of a file with the float model: SNR, cosine, the first that goes wrong.

    Exit code 1 if one goes wrong.

    Example: `edgefiqa layers export student_w8a8.tflite --images SET`
    """
    from edgefiqa.benchmarks.drift.layers import layers_of_export, layers_table
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
    records: Annotated[Path, _RUN],
    policy: Annotated[str, _POLICY] = "quantised",
    junit: Annotated[Path | None, typer.Option(help="JUnit XML to write, for CI.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Also check that the export still holds the bytes that were measured."),
    ] = None,
) -> None:
    """Hold a run's records against a policy: exit code 0 if every rule holds, 1 if not.

    One line a rule and file. What is missing fails.

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
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Run directory of before.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Run directory of now.")],
    resamples: Annotated[int, typer.Option(min=1, help="Of the paired bootstrap.")] = 1000,
    threshold: Annotated[
        float | None, typer.Option(help="Of decisions; the new run's by default.")
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of the paired intervals.")
    ] = 0.99,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what became worse between two runs on the same images; exit code 1 if anything did.

    A regression is a change whose whole paired interval lies on the worse side.

    Example: `edgefiqa compare runs/yesterday runs/today`
    """
    from dataclasses import asdict

    from edgefiqa.benchmarks.drift.compare import change_line, compare_runs
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
            asdict(own) | {"change": own.change.model_dump() if own.change else None}
            for own in changes
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
    records: Annotated[Path, _RUN],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write.", show_default="the run's folder"),
    ] = None,
    policy: Annotated[str | None, _POLICY] = None,
) -> None:
    """Write report.html (one file, no network), report.md and report.json from a run's records.

    Example: `edgefiqa report runs/drift --policy quantised`
    """
    from edgefiqa.benchmarks.report.page import write_report
    from edgefiqa.measuring.policy import load_policy
    from edgefiqa.measuring.run_directory import load_run

    rules = load_policy(policy) if policy else None
    for path in write_report(load_run(records), out or records, policy=rules):
        typer.echo(path)
