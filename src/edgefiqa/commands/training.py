"""`edgefiqa train`: a recipe and image sets in, a scorer out."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, see train/recipes.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]SET[:LABELS]",
            help="First a labelled image set, or a folder of photographs with a label file. "
            "Further ones by name; LABELS is a folder of `edgefiqa label`, or a label file.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; run again to go on where it stopped.")],
) -> None:
    """Train a scorer: in one go, or in stages where the recipe has `stages`.

    Stops and goes on at will: the same command continues from its checkpoint. Each stage shrinks
    the images to its own size; the stages of a recipe that find only one set all learn from it.
    On several GPUs or hosts: `torchrun … -m edgefiqa` with the same arguments.

    Examples:
    `edgefiqa train train/recipes/efficient_fiqa_cpu.yaml --data sets/labelled --out runs/student`

    `edgefiqa train train/recipes/mspt_cpu.yaml --data sets/labelled
    --data pseudo_1=sets/more:runs/labels-1 --data pseudo_2=sets/most:runs/labels-2 --out runs/mspt`
    """
    from edgefiqa.train.parallel import processes
    from edgefiqa.train.stages import parse_data, train_recipe

    result = train_recipe(recipe, [parse_data(text) for text in data], out)
    if not processes().is_main_process:
        return
    for entry in result.metrics:
        typer.echo(
            f"{entry['split']}: SRCC {entry['srcc']:.4f}, PLCC {entry['plcc']:.4f}, n {entry['n']}"
        )
    typer.echo(f"{out}/model.safetensors (sha256 {result.sha256[:16]}…)")
