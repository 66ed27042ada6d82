"""``edgefiqa study mil-…``: studies of Core ML packages and of their reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say, show_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgefiqa.benchmarks.studies import AgreementRecord, ConformanceRun

__all__ = ["agreement", "conformance", "rows"]


def agreement(
    model: Annotated[str, typer.Argument(help="'default' or a model directory.")],
    packages: Annotated[
        list[Path], typer.Argument(help="Core ML packages (.mlpackage) of the same weights.")
    ],
    photos: options.Photos,
    out: options.RecordFile = None,
    limit: Annotated[int, options.limit("Use at most this many photographs, evenly spaced.")] = 200,
    as_json: options.Json = False,
) -> None:
    """Compare the scores and times of Core ML packages in the MIL evaluator with torch's.

    The network and the packages take turns on one thread; times are processor time.

    Example: `edgefiqa study mil-agreement default student.mlpackage --photos faces/`
    """
    import numpy as np

    from edgefiqa.benchmarks.studies import measure_mil_agreement
    from edgefiqa.photo_files import find_photos

    found = find_photos([photos])
    places = np.linspace(0, len(found) - 1, min(limit, len(found))).astype(int)
    with progress() as bar:
        task = bar.add_task("scoring", total=len(places))
        record = measure_mil_agreement(
            model,
            packages,
            [found[place] for place in places],
            on_photo=lambda done: bar.update(task, completed=done),
        )
    if show_record(record.model_dump_json(indent=2), out, as_json=as_json):
        _print_agreement(record)


def _print_agreement(record: AgreementRecord) -> None:
    print_table(
        f"{record.runtime} beside torch",
        ("package", "max error", "/ deviation", "mean error", "ms", "× torch"),
        (
            (
                package.file,
                f"{package.max_abs_error:.1e}",
                f"{package.max_abs_error / record.deviation:.1e}",
                f"{package.mean_abs_error:.1e}",
                f"{package.median_ms:.1f}",
                f"{package.median_ms / record.torch_ms:.2f}",
            )
            for package in record.packages
        ),
    )
    say(
        f"torch: {record.images} photographs score {record.lowest:.3f} to {record.highest:.3f}, "
        f"standard deviation {record.deviation:.3f}; {record.torch_ms:.1f} ms; peak memory of the "
        f"whole comparison {record.peak_bytes / 1e6:.0f} MB"
    )


def conformance(
    out: options.RecordFile = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Precision of the tests: {test_precisions}.")
    ] = "both",
    select: Annotated[
        str,
        typer.Option(
            "--select", help="Expression of `pytest -k` that selects tests.", show_default="all"
        ),
    ] = "",
    sample: Annotated[int, typer.Option("--sample", min=1, help="Run only every N-th test.")] = 1,
    as_json: options.Json = False,
) -> None:
    """Run coremltools' op tests against the MIL evaluator and count those that pass.

    Exit code 1 if too few pass.

    Example: `edgefiqa study mil-conformance --sample 40`
    """
    from edgefiqa.benchmarks.studies import OpTestPrecision
    from edgefiqa.commands.choices import parse_choice

    chosen = parse_choice(OpTestPrecision, precision, what="precision")
    # After the choice: this imports torch and pytest.
    from edgefiqa.benchmarks.studies import REQUIRED_PASS_RATE, measure_conformance

    record = measure_conformance(chosen, select=select, sample=sample)
    if show_record(record.model_dump_json(indent=1), out, as_json=as_json):
        for run in record.runs:
            for line in _conformance_lines(run, REQUIRED_PASS_RATE):
                typer.echo(line)
    if any(run.rate < REQUIRED_PASS_RATE for run in record.runs):
        raise typer.Exit(1)


def _conformance_lines(run: ConformanceRun, required: float) -> Iterator[str]:
    for test, reason in sorted(run.failed.items()):
        yield f"  failed  {test}: {reason}"
    for kind, counts in (("not claimed", run.not_claimed), ("apart", run.no_prediction)):
        for reason, count in sorted(counts.items(), key=lambda row: -row[1]):
            yield f"  {kind}  {count} tests: {reason}"
    yield (
        f"{run.precision}: {run.passed} of {run.claimed} of coremltools' op tests pass "
        f"({run.rate:.2%}; required {required:.0%}); {sum(run.not_claimed.values())} need ops that "
        f"are not claimed, {sum(run.no_prediction.values())} make no prediction, {run.skipped} are "
        f"skipped; {run.failed_of_float16} of the failed ones have float16 parameters"
    )


def rows(
    export: Annotated[Path, typer.Argument(help="Export directory with Core ML packages.")],
    calibration: options.Calibration,
    evaluation: options.Evaluation,
    out: options.ResumedDir,
    labels: options.Labels = None,
    reference: options.FloatWeights = "default",
    limit: Annotated[
        int, options.limit("Use at most this many evaluation images, evenly spaced.")
    ] = 1200,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row",
            help="Row to measure; repeat the option for several: {coreml_rows}.",
            show_default="all of them",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure the drift of a Core ML export's float16, int8, palette and W8A8 packages.

    Exit code 1 if a row breaks its bound. An interrupted run continues.

    Example: `edgefiqa study mil-rows export --calibration SET --evaluation SET --out runs/rows`
    """
    from edgefiqa.benchmarks.studies import RowOptions, broken_rows, measure_rows
    from edgefiqa.quantize import bounded_table

    plan = RowOptions(
        export=export,
        calibration=calibration,
        evaluation=evaluation,
        labels=labels,
        reference=reference,
        limit=limit,
        out=out,
    )
    with progress() as bar:
        task = bar.add_task("rows", total=None)
        record = measure_rows(
            plan, row or (), on_row=lambda name: bar.update(task, description=name)
        )
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    else:
        typer.echo(bounded_table(record.rows, record.bounds))
    say(f"{record.evaluation.name}: {record.evaluation.images} images; wrote {out}")
    if broken_rows(record):
        raise typer.Exit(1)
