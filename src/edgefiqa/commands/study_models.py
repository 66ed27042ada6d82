"""``edgefiqa study`` …: studies of trained models, of training and of labelling."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say, show_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgefiqa.benchmarks.studies import LabellingRecord, TrainingSpeedRecord

__all__ = ["accuracy", "labelling", "teacher_runtimes", "training_speed"]

_NamedModels = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=PATH",
        help="Scorer to compare: a name for its row, and a model directory, a .safetensors file or "
        "'default'. Repeat the option for several.",
        show_default="none",
    ),
]
_Baselines = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        help="No-reference baseline to compare; repeat the option for several: {baselines}.",
        show_default="all of them",
    ),
]


def accuracy(
    images: Annotated[Path, typer.Argument(metavar="SET", help="Labelled image set.")],
    out: Annotated[
        Path,
        options.out(
            "File to write the record to, ending in .json; tables and scores go beside it."
        ),
    ],
    model: _NamedModels = None,
    baseline: _Baselines = None,
    models_only: Annotated[
        bool, typer.Option("--models-only", help="Compare no baselines.")
    ] = False,
    resamples: options.Resamples = 1000,
    batch: options.Batch = 16,
    rounds: options.Rounds = 20,
    as_json: options.Json = False,
) -> None:
    """Measure how well scorers and baselines agree with the labels of held-back photographs.

    A scorer that fails becomes a row that says so; the others finish. Every score is written, so
    that every figure can be computed again.

    Example: `edgefiqa study accuracy SET --model student=default --out accuracy.json`
    """
    from edgefiqa.benchmarks.studies import (
        BASELINES,
        Protocol,
        accuracy_tables,
        compare_scorers,
        write_comparison,
    )
    from edgefiqa.data.image_set import open_image_set
    from edgefiqa.errors import UsageError

    if out.suffix != ".json":
        raise UsageError("the record is a JSON file", value=out, allowed="a name ending in .json")
    models = [_parse_model(text) for text in model or ()]
    with progress() as bar:
        task = bar.add_task("timing", total=None)
        record, scores = compare_scorers(
            open_image_set(images),
            models,
            baselines=[] if models_only else (baseline or BASELINES.names()),
            protocol=Protocol(resamples=resamples, batch=batch, rounds=rounds),
            on_progress=lambda name, done, total: bar.update(
                task, description=name, completed=done, total=total
            ),
        )
    write_comparison(out, record, scores)
    typer.echo(record.model_dump_json(by_alias=True) if as_json else accuracy_tables(record))
    say(f"wrote {out}")


def _parse_model(text: str) -> tuple[str, Path]:
    from edgefiqa.errors import UsageError

    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError("cannot tell the model", value=text, allowed="NAME=PATH, NAME=default")
    return name, Path(path)


_Architectures = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="Architecture to train, a name of `edgefiqa models`; repeat the option for several.",
        show_default="efficient-fiqa-student",
    ),
]
_Crop = Annotated[int, typer.Option("--crop", min=32, help="Side of the random crops, in pixels.")]
_Steps = Annotated[
    int, typer.Option("--steps", min=1, help="Number of timed training steps in each turn.")
]
_InBfloat16 = Annotated[
    bool, typer.Option("--bfloat16/--no-bfloat16", help="Also train in bfloat16.")
]


def training_speed(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs to train on.")],
    out: Annotated[Path, options.out("File to write the records to, as JSON.")],
    model: _Architectures = None,
    crop: _Crop = 160,
    batch: Annotated[
        int, typer.Option("--batch", min=2, help="Number of images in one training step.")
    ] = 32,
    steps: _Steps = 4,
    rounds: options.Rounds = 8,
    threads: Annotated[
        int, options.threads("Number of cores: torch threads, or processes of one thread each.")
    ] = 2,
    limit: Annotated[int, options.limit("Use at most this many photographs.")] = 256,
    bfloat16: _InBfloat16 = True,
    as_json: options.Json = False,
) -> None:
    """Measure how many images a second training gets through, beside a plain torch loop.

    The loops take turns of a few steps, so that all meet the same machine.

    Example: `edgefiqa study training-speed PHOTOS --model mspt --model lite0 --out record.json`
    """
    from edgefiqa.benchmarks.studies import TrainingSettings, measure_training_speed

    first = TrainingSettings(
        crop=crop,
        batch=batch,
        steps=steps,
        rounds=rounds,
        threads=threads,
        photos=limit,
        bfloat16=bfloat16,
    )
    records = []
    with progress() as bar:
        for name in bar.track(model or [first.model], description="training"):
            settings = first.model_copy(update={"model": name})
            records.append(measure_training_speed(photos, settings))
            # After each model: an interrupted study keeps what it has.
            _write_speeds(records, out)
    if as_json:
        typer.echo(out.read_text(encoding="utf-8"), nl=False)
    else:
        heads = ("model", "loop", "images/s", "ratio to the faster plain loop")
        print_table("Training speed", heads, _speed_rows(records))
    say(f"wrote {out}")


def _write_speeds(records: list[TrainingSpeedRecord], out: Path) -> None:
    from pydantic import TypeAdapter

    from edgefiqa.benchmarks.studies import TrainingSpeedRecord
    from edgefiqa.files import write_text

    content = TypeAdapter(list[TrainingSpeedRecord]).dump_json(records, indent=2)
    write_text(out, content.decode() + "\n")


def _speed_rows(records: Sequence[TrainingSpeedRecord]) -> Iterator[tuple[str, ...]]:
    for record in records:
        for name, rate in record.images_per_second.items():
            ratio, shown = record.ratio.get(name), "–"
            if ratio is not None:
                shown = f"{ratio.centre:.2f}"
                shown += "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
            yield record.settings.model, name, f"{rate:.1f}", shown


def labelling(
    photos: Annotated[list[Path], typer.Argument(help="Photographs and folders of them.")],
    out: options.RecordFile = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="'default' or a model directory; repeat the option for several.",
            show_default="default",
        ),
    ] = None,
    size: options.Size = None,
    limit: Annotated[int, options.limit("Use at most this many photographs.")] = 600,
    rounds: options.Rounds = 5,
    as_json: options.Json = False,
) -> None:
    """Compare the speed of batched labelling with one photograph in each forward pass.

    Scores the same photographs in each way, in turns, and compares the scores as well.

    Example: `edgefiqa study labelling PHOTOS --model teacher/ --out labelling.json`
    """
    from pydantic import TypeAdapter

    from edgefiqa.benchmarks.studies import LabellingRecord, measure_labelling
    from edgefiqa.photo_files import find_photos

    found = find_photos(photos)[:limit]
    with progress() as bar:
        records = [
            measure_labelling(name, found, size=size, rounds=rounds)
            for name in bar.track(model or ["default"], description="labelling")
        ]
    text = TypeAdapter(list[LabellingRecord]).dump_json(records, indent=2).decode()
    if show_record(text, out, as_json=as_json):
        heads = ("model", "way", "images/s", "ratio (min to max)", "largest difference", "SRCC")
        print_table("Labelling", heads, _labelling_rows(records))


def _labelling_rows(records: Sequence[LabellingRecord]) -> Iterator[tuple[str, ...]]:
    for record in records:
        for way in record.ways:
            low, high = min(way.paired_ratios), max(way.paired_ratios)
            yield (
                f"{record.model} {record.size}²",
                way.way,
                f"{way.images_per_second:.1f}",
                f"{way.ratio:.2f} ({low:.2f} to {high:.2f})",
                f"{way.max_abs_difference:.1e}",
                f"{way.srcc:.5f}",
            )


def teacher_runtimes(
    model: Annotated[Path, typer.Argument(help="Model directory of a lite0 teacher.")],
    out: options.RecordFile = None,
    size: Annotated[
        int, typer.Option("--size", min=32, help="Side of the images in pixels.")
    ] = 288,
    batch: options.Batch = 24,
    rounds: options.Rounds = 9,
    threads: options.Threads = 1,
    as_json: options.Json = False,
) -> None:
    """Compare what an online teacher costs in torch and in ONNX Runtime.

    Asks for scores and feature maps of the same batch in each way, in turns.

    Example: `edgefiqa study teacher-runtimes distill/weights/teacher-plus --out record.json`
    """
    from edgefiqa.benchmarks.studies import measure_teacher_runtimes

    with progress() as bar:
        bar.add_task("asking the teacher", total=None)
        record = measure_teacher_runtimes(
            model, size=size, batch=batch, rounds=rounds, threads=threads
        )
    if show_record(record.model_dump_json(indent=2), out, as_json=as_json):
        rows = []
        for way in record.ways:
            ratios = way.paired_ratios
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            rows.append((way.way, f"{way.image_ms:.1f}", spread, f"{way.max_abs_difference:.1e}"))
        heads = ("way", "ms an image", "time / torch (min to max)", "largest difference")
        print_table(f"Teacher {record.sha256[:12]}", heads, rows)
