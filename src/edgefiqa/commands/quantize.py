"""INT8 after training: ``edgefiqa quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands.terminal import progress, say

if TYPE_CHECKING:
    from edgefiqa.quantize.measured import MeasuredFile

__all__ = ["quantize"]


def quantize(
    export: Annotated[Path, typer.Argument(help="What `edgefiqa convert` wrote.")],
    calibration: Annotated[
        Path, typer.Option(help="Image set or photographs that activation ranges come from.")
    ],
    evaluation: Annotated[
        Path, typer.Option(help="Other images, on which drift to the float model is measured.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where files go.", show_default="the export itself"),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="A YAML file, or the name of a recipe that ships with the package.")
    ] = "mixed_w8a8_srcc",
    to: Annotated[
        str, typer.Option(help="Formats, separated by commas.", show_default="all in the export")
    ] = "",
    labels: Annotated[
        Path | None, typer.Option(help="Label file of the evaluation photographs.")
    ] = None,
    reference: Annotated[
        str, typer.Option(help="Float weights of the export: a model directory.")
    ] = "default",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also measure each vendor's plain INT8 path.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, while preparing.")] = 1,
) -> None:
    """Make INT8 files that keep a policy, measured in their own runtimes on other images.

    Starts with everything in int8 and returns whole blocks to float until the policy holds. Exit
    code 1, and no file, where it cannot. Interrupt it freely: the same command goes on.

    Recipes: mixed_w8a8_srcc, static_w8a8_per_channel, weight_only_w8, dynamic_w8.

    Example: `edgefiqa quantize export --calibration SET --evaluation SET --to onnx,tflite`
    """
    from edgefiqa.measuring.image_source import SourceSpec
    from edgefiqa.quantize.run import Options, run
    from edgefiqa.quantize.settings import load_recipe

    own, out = load_recipe(recipe), out or export
    options = Options(
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
        record = run(
            own,
            options,
            on_start=lambda name: bar.update(task, description=name),
            on_done=lambda measured: say(_line(measured)),
        )
    say(f"wrote {out / 'quantization' / own.name}.md")
    for failure in record.failures:
        say(f"not made: {failure.name}: {failure.reason}")
    if record.failed:
        raise typer.Exit(1)


def _line(own: MeasuredFile) -> str:
    def value(name: str, form: str) -> str:
        figure = own.figures.get(name)
        return "–" if figure is None or figure.value is None else format(figure.value, form)

    share = "" if own.int8_share is None else f"{own.int8_share:.1%} int8, "
    verdict = "keeps its bounds" if not own.faults else f"breaks {'; '.join(own.faults)}"
    return (
        f"{own.format}, {own.recipe}: {share}{len(own.float_blocks)} blocks in float, "
        f"ΔSRCC {value('delta_srcc', '+.4f')}, SRCC to float {value('srcc_reference', '.5f')}, "
        f"p99 {value('p99_error', '.4f')}, bias {value('bias', '+.4f')}, "
        f"{own.size_ratio:.3f} of fp32, {own.median_ms:.1f} ms: {verdict}"
    )
