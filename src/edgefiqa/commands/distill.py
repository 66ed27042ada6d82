"""``edgefiqa distill``: the whole pipeline, and the ablation of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, say

__all__ = ["ablation", "run"]

_Recipe = Annotated[
    Path, typer.Argument(help="Recipe, a YAML file; distill/recipes holds examples.")
]
_Labelled = Annotated[
    Path,
    typer.Option(
        "--labelled", help="Labelled image set, or a folder of photographs with a label file."
    ),
]
_Unlabelled = Annotated[
    list[Path],
    typer.Option(
        "--unlabelled",
        help="Image set or folder of photographs without labels. Give the option twice, or once: "
        "then the folder is split into two halves.",
    ),
]
_Labels = Annotated[
    Path | None,
    options.labels(
        "Label file of the labelled photographs.", default="the only label file in the folder"
    ),
]
_Card = Annotated[
    Path | None,
    typer.Option("--card", help="YAML file with the texts of the student's model card."),
]
_TeacherFrom = Annotated[
    Path | None,
    typer.Option(
        "--teacher-from",
        help="Trained teacher that training starts from.",
        show_default="as the recipe says",
    ),
]
_StudentFrom = Annotated[
    Path | None,
    typer.Option(
        "--student-from",
        help="Trained student that training starts from.",
        show_default="as the recipe says",
    ),
]
_TeacherPlus = Annotated[
    Path | None,
    typer.Option(
        "--teacher-plus",
        help="Trained teacher that labels all sets; then only the student is trained.",
        show_default="trained as the recipe says",
    ),
]


def run(
    recipe: _Recipe,
    labelled: _Labelled,
    unlabelled: _Unlabelled,
    out: options.ResumedDir,
    labels: _Labels = None,
    card: _Card = None,
    workers: options.Workers = None,
    teacher_from: _TeacherFrom = None,
    student_from: _StudentFrom = None,
    teacher_plus: _TeacherPlus = None,
) -> None:
    """Train teachers with pseudo-labels, and a student from them, in one resumable run.

    The steps: teacher → pseudo-labels → teacher+ → pseudo-labels → student. On several GPUs, cores
    or hosts: `torchrun … -m edgefiqa` with the same arguments.

    When there are more data later, `--teacher-from runs/student/teacher-plus --student-from
    runs/student/student --out runs/second` starts from the trained models. With a teacher that is
    good enough, `--teacher-plus distill/weights/teacher-plus` trains the student alone.

    Examples:
    `edgefiqa distill run distill/recipes/default_student_cpu.yaml --labelled sets/labelled
    --unlabelled sets/unlabelled-1 --unlabelled sets/unlabelled-2 --out runs/student`

    `edgefiqa distill run my_recipe.yaml --labelled vquala/train --unlabelled phone_photos
    --out runs/student`
    """
    from edgefiqa.distill import DistillRecipe, distil
    from edgefiqa.recipe import load_recipe
    from edgefiqa.train import CardText, processes

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


def ablation(
    recipe: _Recipe,
    labelled: _Labelled,
    unlabelled: _Unlabelled,
    out: options.ResumedDir,
    labels: _Labels = None,
    workers: options.Workers = None,
) -> None:
    """Measure what pseudo-labels and resolutions add to a student, over several seeds.

    These are Tables 2 and 3 of the paper. Writes ablation.json and ablation.md.

    Example:
    `edgefiqa distill ablation distill/recipes/ablation_cpu.yaml --labelled sets/labelled
    --unlabelled sets/unlabelled-1 --unlabelled sets/unlabelled-2 --out runs/ablation`
    """
    from edgefiqa.distill import AblationRecipe, run_ablation
    from edgefiqa.recipe import load_recipe

    settings = load_recipe(recipe, AblationRecipe)
    record = run_ablation(settings, labelled, unlabelled, out, labels=labels, workers=workers)
    print_table(
        "means over seeds",
        ("learned from", "size", "SRCC", "PLCC"),
        (
            [row["sets"], str(row["size"]), str(row["srcc"]["value"]), str(row["plcc"]["value"])]
            for row in (*record["table_2"], *record["table_3"])
        ),
    )
    say(f"wrote {out / 'ablation.md'}; labelled < + D1 ≤ + D2: {record['order_holds']}")
