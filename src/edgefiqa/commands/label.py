"""``edgefiqa label``: pseudo-labels for photographs or an image set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.commands.terminal import progress, say

__all__ = ["label"]


def label(
    photos: Annotated[
        list[Path], typer.Argument(help="An image set, or photographs and folders of them.")
    ],
    model: Annotated[
        list[str],
        typer.Option(help="'default' or a model directory; repeat it to average several."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the labels.")],
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine; ray: Ray Data.")
    ] = "local",
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Labelled set to fit the logistic map from scores to labels on."),
    ] = None,
    views: Annotated[
        int, typer.Option(min=1, max=2, help="2 scores the mirror image too; gives a spread.")
    ] = 1,
    keep: Annotated[
        float | None,
        typer.Option(
            "--filter", help="Also write kept.csv: this share of the rows, the least spread first."
        ),
    ] = None,
    max_spread: Annotated[
        float | None, typer.Option(help="Also write kept.csv: rows of at most this spread.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side that is scored, in pixels; the model's if not given.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 8,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    runtime: Annotated[
        str, typer.Option(help="torch, or onnxruntime: faster on CPUs, in float32.")
    ] = "torch",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    readers: Annotated[
        int, typer.Option(min=0, help="Decoding threads of each worker; set it for a GPU.")
    ] = 0,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Stop above this share without a score.")
    ] = 0.01,
) -> None:
    """Score many images with a torch model: one row an image, in batches, on every core.

    Writes `labels.csv` (image, sha256, raw_score, mapped_score, spread, error) and, last,
    `labels.meta.json`. Interrupt it freely: the same command goes on and gives the same bytes.

    Examples:
    `edgefiqa label photos/ --model teacher/ --calibrate labelled/ --out labels`

    `edgefiqa label SET --model a/ --model b/ --filter 0.8 --engine ray --workers 8 --out labels`
    """
    from edgefiqa.errors import UsageError
    from edgefiqa.files import write_text
    from edgefiqa.train.chunk_scoring import LabelSettings, ScoringPrecision
    from edgefiqa.train.frozen_teacher import TeacherRuntime
    from edgefiqa.train.label_table import keep_confident, write_rows
    from edgefiqa.train.pseudo_labels import Engine, label_images

    for value, kind in ((engine, Engine), (precision, ScoringPrecision), (runtime, TeacherRuntime)):
        if value not in list(kind):
            raise UsageError("there is no such choice", value=value, allowed=", ".join(kind))
    settings = LabelSettings(
        size=size,
        batch=batch,
        views=views,
        precision=ScoringPrecision(precision),
        runtime=TeacherRuntime(runtime),
        device=device,
        readers=readers,
        max_unreadable=max_unreadable,
    )
    with progress() as bar:
        task = bar.add_task("labelling", total=None)
        labels = label_images(
            model,
            photos[0] if len(photos) == 1 else photos,
            out,
            settings=settings,
            calibrate=calibrate,
            engine=Engine(engine),
            workers=workers,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    say(f"wrote {out}: {labels.meta['scored']} scores, {labels.meta['unreadable']} without")
    if keep is not None or max_spread is not None:
        chosen = keep_confident(labels.rows, share=keep, max_spread=max_spread)
        write_text(out / "kept.csv", write_rows(labels.rows[i] for i in chosen))
        say(f"kept.csv holds {len(chosen)} of them")
