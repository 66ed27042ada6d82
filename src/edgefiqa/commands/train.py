"""``edgefiqa train`` and ``label``: a scorer from labelled images, and labels from a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import progress, say
from edgefiqa.labelling_choices import Engine, ScoringPrecision, TeacherRuntime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefiqa.train import PseudoLabel

__all__ = ["label", "train"]


def train(
    recipe: Annotated[
        Path, typer.Argument(help="Recipe, a YAML file; train/recipes holds examples.")
    ],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="[NAME=]SET[:LABELS]",
            help="First the labelled image set, or a folder of photographs with a label file. "
            "Repeat the option, with names, for pseudo-labelled sets: LABELS is the folder that "
            "`edgefiqa label` wrote, or a label file.",
        ),
    ],
    out: options.ResumedDir,
) -> None:
    """Train a scorer on labelled and pseudo-labelled images as a recipe says.

    A recipe with `stages` trains in stages; each shrinks the images to its size. With one set,
    all stages learn from it. An interrupted run continues from its checkpoint. On several GPUs or
    hosts: `torchrun … -m edgefiqa` with the same arguments.

    Examples:
    `edgefiqa train train/recipes/efficient_fiqa_cpu.yaml --data sets/labelled --out runs/student`

    `edgefiqa train train/recipes/mspt_cpu.yaml --data sets/labelled
    --data pseudo_1=sets/more:runs/labels-1 --data pseudo_2=sets/most:runs/labels-2 --out runs/mspt`
    """
    from edgefiqa.train import parse_data, processes, train_recipe

    result = train_recipe(recipe, [parse_data(text) for text in data], out)
    if not processes().is_main_process:
        return
    for entry in result.metrics:
        typer.echo(
            f"{entry['split']}: SRCC {entry['srcc']:.4f}, PLCC {entry['plcc']:.4f}, n {entry['n']}"
        )
    typer.echo(f"{out}/model.safetensors (sha256 {result.sha256[:16]}…)")


_Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        help="'default' or a model directory; repeat the option to average several models.",
    ),
]
_LabelSize = Annotated[
    int | None,
    options.size("Side of the square that is scored, in pixels.", default="the first model's size"),
]
_Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        help="Labelled image set on which a logistic map from scores to labels is fitted.",
    ),
]
_Views = Annotated[
    int,
    typer.Option(
        "--views",
        min=1,
        max=2,
        help="2 also scores the mirror image; the difference is the spread of the row.",
    ),
]
_KeepShare = Annotated[
    float | None,
    typer.Option(
        "--filter",
        help="Also write kept.csv with this share of the rows: those of the smallest spread.",
    ),
]
_MaxSpread = Annotated[
    float | None,
    typer.Option("--max-spread", help="Also write kept.csv with the rows of at most this spread."),
]
_Engine = Annotated[
    Engine,
    typer.Option("--engine", help="What runs the workers: this machine's processes, or Ray Data."),
]
_Precision = Annotated[
    ScoringPrecision,
    typer.Option("--precision", help="Number format that the network computes in."),
]
_TeacherRuntime = Annotated[
    TeacherRuntime,
    typer.Option(
        "--runtime",
        help="What executes the network; onnxruntime is faster on CPUs, and only in float32.",
    ),
]
_Device = Annotated[
    str, typer.Option("--device", help="Torch device to compute on, such as cpu or cuda.")
]
_Readers = Annotated[
    int,
    typer.Option(
        "--readers",
        min=0,
        help="Threads of each worker that decode images ahead; useful with a GPU.",
    ),
]
_MaxUnreadable = Annotated[
    float,
    typer.Option(
        "--max-unreadable",
        min=0,
        max=1,
        help="Share of images without a score above which labelling fails.",
    ),
]


def label(
    photos: Annotated[
        list[Path], typer.Argument(help="An image set, or photographs and folders of them.")
    ],
    model: _Models,
    out: options.ResumedDir,
    calibrate: _Calibrate = None,
    views: _Views = 1,
    keep: _KeepShare = None,
    max_spread: _MaxSpread = None,
    size: _LabelSize = None,
    batch: options.Batch = 8,
    precision: _Precision = ScoringPrecision.FLOAT32,
    runtime: _TeacherRuntime = TeacherRuntime.TORCH,
    engine: _Engine = Engine.LOCAL,
    workers: options.Workers = None,
    device: _Device = "cpu",
    readers: _Readers = 0,
    max_unreadable: _MaxUnreadable = 0.01,
) -> None:
    """Score many images with a torch model to use the scores as pseudo-labels.

    Writes `labels.csv` (image, sha256, raw_score, mapped_score, spread, error) and, last,
    `labels.meta.json`. An interrupted run continues and gives the same bytes.

    Examples:
    `edgefiqa label photos/ --model teacher/ --calibrate labelled/ --out labels`

    `edgefiqa label SET --model a/ --model b/ --filter 0.8 --engine ray --workers 8 --out labels`
    """
    from edgefiqa.train import LabelSettings, label_images

    settings = LabelSettings(
        size=size,
        batch=batch,
        views=views,
        precision=precision,
        runtime=runtime,
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
            engine=engine,
            workers=workers,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    say(f"wrote {out}: {labels.meta['scored']} scores, {labels.meta['unreadable']} without")
    if keep is not None or max_spread is not None:
        _write_kept(labels.rows, out / "kept.csv", share=keep, max_spread=max_spread)


def _write_kept(
    rows: Sequence[PseudoLabel], path: Path, *, share: float | None, max_spread: float | None
) -> None:
    from edgefiqa.files import write_text
    from edgefiqa.train import keep_confident, write_rows

    chosen = keep_confident(rows, share=share, max_spread=max_spread)
    write_text(path, write_rows(rows[place] for place in chosen))
    say(f"{path.name} holds {len(chosen)} of them")
