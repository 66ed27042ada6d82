"""``edgefiqa distill``: the whole pipeline, and the ablation of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.commands.terminal import print_table, say

__all__ = ["app"]

app = typer.Typer(
    help="Self-train teachers and distil a student.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_LABELLED = typer.Option(help="A labelled image set, or a folder of photographs with a label file.")
_UNLABELLED = typer.Option(
    help="Image sets or folders of photographs: twice, or one folder, which is cut in two."
)
_OUT = typer.Option("--out", "-o", help="Output folder; run again to go on where it stopped.")
_LABELS = typer.Option(help="Label file.", show_default="the only one in the folder")
_WORKERS = typer.Option(
    min=1, help="Processes that check, pack and label.", show_default="one a core"
)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe, see distill/recipes.")],
    labelled: Annotated[Path, _LABELLED],
    unlabelled: Annotated[list[Path], _UNLABELLED],
    out: Annotated[Path, _OUT],
    labels: Annotated[Path | None, _LABELS] = None,
    card: Annotated[Path | None, typer.Option(help="YAML with the words of the card.")] = None,
    workers: Annotated[int | None, _WORKERS] = None,
    teacher_from: Annotated[
        Path | None,
        typer.Option(help="A trained teacher to start from.", show_default="as the recipe says"),
    ] = None,
    student_from: Annotated[
        Path | None,
        typer.Option(help="A trained student to start from.", show_default="as the recipe says"),
    ] = None,
    teacher_plus: Annotated[
        Path | None,
        typer.Option(
            help="A trained teacher that labels all sets; only the student is trained.",
            show_default="trained as the recipe says",
        ),
    ] = None,
) -> None:
    """Teacher → pseudo-labels → teacher+ → pseudo-labels → student.

    For example:

        edgefiqa distill run distill/recipes/default_student_cpu.yaml --labelled sets/labelled
        --unlabelled sets/unlabelled-1 --unlabelled sets/unlabelled-2 --out runs/student

        edgefiqa distill run my_recipe.yaml --labelled vquala/train --unlabelled phone_photos
        --out runs/student

    On several GPUs, cores or hosts: `torchrun … -m edgefiqa` with the same arguments.

    With more data later, `--teacher-from runs/student/teacher-plus --student-from
    runs/student/student --out runs/second` goes on from what was learnt; with a teacher that is
    good enough, `--teacher-plus distill/weights/teacher-plus` trains the student alone.
    """
    from edgefiqa.distill.run import run as distil
    from edgefiqa.distill.settings import DistillRecipe
    from edgefiqa.recipe import load_recipe
    from edgefiqa.train import CardText
    from edgefiqa.train.parallel import processes

    result = distil(
        load_recipe(recipe, DistillRecipe),
        labelled,
        unlabelled,
        out,
        labels=labels,
        text=load_recipe(card, CardText) if card else None,
        workers=workers,
        teacher_from=teacher_from,
        student_from=student_from,
        teacher_plus=teacher_plus,
    )
    if not processes().is_main_process:
        return
    metrics = result.trained.metrics
    print_table(
        "student",
        ("split", "n", "SRCC", "PLCC"),
        ([m["split"], str(m["n"]), f"{m['srcc']:.4f}", f"{m['plcc']:.4f}"] for m in metrics),
    )
    say(f"wrote {result.student} (sha256 {result.trained.sha256[:16]}…)")


@app.command()
def ablation(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe: ablation_cpu.yaml, say.")],
    labelled: Annotated[Path, _LABELLED],
    unlabelled: Annotated[list[Path], _UNLABELLED],
    out: Annotated[Path, _OUT],
    labels: Annotated[Path | None, _LABELS] = None,
    workers: Annotated[int | None, _WORKERS] = None,
) -> None:
    """What do pseudo-labels and resolutions add? Tables 2 and 3 of the paper, over several seeds.

    Writes ablation.json and ablation.md. For example:

        edgefiqa distill ablation distill/recipes/ablation_cpu.yaml --labelled sets/labelled
        --unlabelled sets/unlabelled-1 --unlabelled sets/unlabelled-2 --out runs/ablation
    """
    from edgefiqa.distill.ablation import AblationRecipe
    from edgefiqa.distill.ablation import run as ablate
    from edgefiqa.recipe import load_recipe

    settings = load_recipe(recipe, AblationRecipe)
    record = ablate(settings, labelled, unlabelled, out, labels=labels, workers=workers)
    print_table(
        "means over seeds",
        ("learned from", "size", "SRCC", "PLCC"),
        (
            [row["sets"], str(row["size"]), str(row["srcc"]["value"]), str(row["plcc"]["value"])]
            for row in (*record["table_2"], *record["table_3"])
        ),
    )
    say(f"wrote {out / 'ablation.md'}; labelled < + D1 ≤ + D2: {record['order_holds']}")
