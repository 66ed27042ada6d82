"""``edgefiqa quantize``: INT8 after training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import progress, say

if TYPE_CHECKING:
    from edgefiqa.quantize import MeasuredFile

__all__ = ["quantize"]

_Export = Annotated[Path, typer.Argument(help="Export directory that `edgefiqa convert` wrote.")]
_Recipe = Annotated[
    str,
    typer.Option("--recipe", help="Recipe: a YAML file, or one of {recipes}."),
]
_To = Annotated[
    str,
    typer.Option(
        "--to",
        help="Formats, separated by commas: {int8_formats}.",
        show_default="all formats in the export",
    ),
]
_Compare = Annotated[
    bool,
    typer.Option("--compare", help="Also make and measure a file by each vendor's INT8 toolchain."),
]


def quantize(
    export: _Export,
    calibration: options.Calibration,
    evaluation: options.Evaluation,
    out: Annotated[
        Path | None,
        options.out("Folder for the INT8 files.", default="the export directory"),
    ] = None,
    recipe: _Recipe = "mixed_w8a8_srcc",
    to: _To = "",
    labels: options.Labels = None,
    reference: options.FloatWeights = "default",
    compare: _Compare = False,
    threads: Annotated[
        int, options.threads("Number of torch threads while the files are prepared.")
    ] = 1,
) -> None:
    """Make INT8 files that keep a policy, measured in their runtimes on other images.

    Everything starts in int8; whole blocks return to float until the policy holds. If it cannot
    hold, no file is written and the exit code is 1. An interrupted run continues.

    Example: `edgefiqa quantize export --calibration SET --evaluation SET --to onnx,tflite`
    """
    from edgefiqa.measuring.image_source import SourceSpec
    from edgefiqa.quantize import QuantizeOptions, load_quantize_recipe, quantize_export

    settings, out = load_quantize_recipe(recipe), out or export
    plan = QuantizeOptions(
        export=export,
        out=out,
        source=reference,
        calibration=SourceSpec(path=calibration),
        evaluation=SourceSpec(path=evaluation, labels=labels),
        formats=tuple(name.strip() for name in to.split(",") if name.strip()),
        compare=compare,
        threads=threads,
    )
    with progress() as bar:
        task = bar.add_task("reading the images", total=None)
        record = quantize_export(
            settings,
            plan,
            on_start=lambda name: bar.update(task, description=name),
            on_done=lambda measured: say(_line(measured)),
        )
    say(f"wrote {out / 'quantization' / settings.name}.md")
    for failure in record.failures:
        say(f"not made: {failure.name}: {failure.reason}")
    if record.failed:
        raise typer.Exit(1)


def _line(file: MeasuredFile) -> str:
    def value(name: str, form: str) -> str:
        figure = file.figures.get(name)
        return "–" if figure is None or figure.value is None else format(figure.value, form)

    share = "" if file.int8_share is None else f"{file.int8_share:.1%} int8, "
    verdict = "keeps its bounds" if not file.faults else f"breaks {'; '.join(file.faults)}"
    return (
        f"{file.format}, {file.recipe}: {share}{len(file.float_blocks)} blocks in float, "
        f"ΔSRCC {value('delta_srcc', '+.4f')}, SRCC to float {value('srcc_reference', '.5f')}, "
        f"p99 {value('p99_error', '.4f')}, bias {value('bias', '+.4f')}, "
        f"{file.size_ratio:.3f} of fp32, {file.median_ms:.1f} ms: {verdict}"
    )
