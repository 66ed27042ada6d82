"""The whole pipeline: labelled and unlabelled images in, a student with its card out.

::

    edgefiqa distill run RECIPE --labelled A --unlabelled B --out DIR

    A, B ─▶ teacher ─▶ D1 ─▶ teacher+ ─▶ D2 ─▶ student on A ∪ D1 ∪ D2 (─▶ restarts)
            OUT/teacher  labels-1  teacher-plus  labels-2  OUT/student (student-2 …)

A recipe may also have teacher+ label A (``labels-own``) for the student.

Every step writes a separate folder; the same command goes on where it stopped.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgefiqa.data.image_set import Split, full_disk_named, open_image_set
from edgefiqa.distill.features import online_guidance
from edgefiqa.distill.settings import (
    UNLABELLED_SETS,
    DistillRecipe,
    GuidanceRecipe,
    PseudoSet,
)
from edgefiqa.errors import UsageError
from edgefiqa.files import write_text
from edgefiqa.train import (
    CardText,
    Guidance,
    SelfTrained,
    TrainingSet,
    TrainResult,
    build_scorer,
    label_set,
    label_sets,
    labelled_rows,
    labelled_source,
    load_scorer,
    processes,
    pseudo_set,
    self_train,
    start_from,
    train_model,
    unlabelled_sources,
)
from edgefiqa.workers import processor_count

__all__ = ["DistillResult", "pseudo_sets", "run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DistillResult:
    """What the pipeline left.

    Attributes:
        student: Folder of the student.
        self_trained: Folders of teachers and pseudo-labels.
        trained: The student's figures.
    """

    student: Path
    self_trained: SelfTrained
    trained: TrainResult


def run(
    recipe: DistillRecipe,
    labelled: Path,
    unlabelled: Sequence[Path],
    out: Path,
    *,
    labels: Path | None = None,
    text: CardText | None = None,
    workers: int | None = None,
    teacher_from: Path | None = None,
    student_from: Path | None = None,
    teacher_plus: Path | None = None,
) -> DistillResult:
    """Run the pipeline, or go on with an interrupted one.

    Args:
        recipe: The settings.
        labelled: An image set with labels and splits, or a folder of photographs with a label file.
        unlabelled: Two image sets or folders of photographs, or one folder, which is cut in two.
        out: Output folder.
        labels: The label file of a folder.
        text: The words of the student's card.
        workers: Processes that check, pack and label; one a core if None.
        teacher_from: A trained teacher that the first one starts from.
        student_from: A trained student that this one starts from.
        teacher_plus: A trained teacher+, which labels all sets: nothing but the student is trained.

    Returns:
        The result, also written to ``result.json``.

    Raises:
        DataError: Images or labels cannot be used, or sets are not disjoint.
        UsageError: A size or the number of unlabelled sets is wrong, or there is both a teacher+
            and a teacher to start from.
        CheckpointError: `out` holds a run of another recipe or of other images, or weights to
            start from do not fit.
    """
    _check_starts(recipe, teacher_from, student_from, teacher_plus)
    workers = workers or processor_count()
    state = processes()
    # One process makes the sets, the others then find them.
    with state.main_process_first():
        sources = (
            labelled_source(labelled, labels, out / "sets", workers=workers),
            *unlabelled_sources(unlabelled, out / "sets", workers=workers),
        )
        # The student's too: a set that cannot be had is to be known before hours of training.
        teacher_sets, student_sets = (
            [source.at(size) for source in sources]
            for size in (recipe.self_training.size, recipe.size)
        )
    trained = _teach(recipe, teacher_sets, out, workers, teacher_from, teacher_plus)
    sets = pseudo_sets(recipe, student_sets[1:], trained)
    if PseudoSet.D in recipe.pseudo:
        sets.append(
            _labelled_by_teachers(recipe, teacher_sets[0], student_sets[0], trained, out, workers)
        )
    student, result = _train_student(
        recipe, student_sets[0], sets, trained, out, text, student_from
    )
    found = DistillResult(student=student, self_trained=trained, trained=result)
    if state.is_main_process:
        with full_disk_named(out):
            content = json.dumps(asdict(found), indent=2, default=str)
            write_text(out / "result.json", content + "\n")
    return found


def _teach(
    recipe: DistillRecipe,
    sets: Sequence[Path],
    out: Path,
    workers: int,
    teacher_from: Path | None,
    teacher_plus: Path | None,
) -> SelfTrained:
    """Train the teachers and label both unlabelled sets, or label them with a trained teacher+."""
    labelled, *unlabelled = sets
    settings = recipe.self_training
    if teacher_plus is not None:
        return label_sets(settings, [teacher_plus], labelled, unlabelled, out, workers=workers)
    return self_train(settings, labelled, unlabelled, out, workers=workers, initial=teacher_from)


def _labelled_by_teachers(
    recipe: DistillRecipe,
    teacher_images: Path,
    student_images: Path,
    trained: SelfTrained,
    out: Path,
    workers: int,
) -> TrainingSet:
    """Let teacher+ label the labelled images too, for the student to hear its opinion of them."""
    folder = out / "labels-own"
    label_set(
        recipe.self_training,
        trained.teachers_plus,
        teacher_images,
        folder,
        calibrate=teacher_images,
        workers=workers,
    )
    images = open_image_set(student_images)
    options = recipe.pseudo_options
    return pseudo_set(PseudoSet.D.value, images, folder, split=Split.TRAIN, **options)


def _train_student(
    recipe: DistillRecipe,
    labelled: Path,
    sets: Sequence[TrainingSet],
    trained: SelfTrained,
    out: Path,
    text: CardText | None,
    initial: Path | None,
) -> tuple[Path, TrainResult]:
    """Train the student, then its warm restarts, each from the weights before it.

    Returns:
        The folder of the last student, and its figures.
    """
    student = out / "student"
    guidance = _guidance(recipe.guidance, labelled, trained)
    result = train_model(
        recipe.student,
        labelled,
        student,
        pseudo=sets,
        guidance=guidance,
        text=text,
        initial=initial,
    )
    for number, restart in enumerate(recipe.restarts, start=2):
        guidance = _guidance(recipe.restart_guidance, labelled, trained)
        folder = out / f"student-{number}"
        result = train_model(
            restart, labelled, folder, pseudo=sets, guidance=guidance, text=text, initial=student
        )
        student = folder
    return student, result


def _check_starts(
    recipe: DistillRecipe, teacher: Path | None, student: Path | None, plus: Path | None
) -> None:
    """Find now what would else stop the pipeline when a model's turn comes."""
    if plus is not None:
        if teacher is not None:
            raise UsageError(
                "a trained teacher+ and a teacher to start from exclude each other",
                value=f"{plus} and {teacher}",
                next_step="leave out --teacher-from: with --teacher-plus no teacher is trained",
            )
        load_scorer(plus)
    for training, path in ((recipe.self_training.teacher, teacher), (recipe.student, student)):
        if path is not None:
            start_from(build_scorer(training.model, pretrained=False, seed=training.seed), path)


def pseudo_sets(
    recipe: DistillRecipe, unlabelled: Sequence[Path], trained: SelfTrained
) -> list[TrainingSet]:
    """Join the unlabelled images and their pseudo-labels.

    Args:
        recipe: Says which of them, and how many of each, are trained on.
        unlabelled: The two image sets at the student's size.
        trained: Where the pseudo-labels lie.

    Returns:
        The sets that the recipe names, but D.
    """
    options = recipe.pseudo_options
    return [
        pseudo_set(name.value, open_image_set(path), folder, **options)
        for name, path, folder in zip(UNLABELLED_SETS, unlabelled, trained.labels, strict=True)
        if name in recipe.pseudo
    ]


def _guidance(
    settings: GuidanceRecipe | None, labelled: Path, trained: SelfTrained
) -> Guidance | None:
    """Make the strengthened teachers the student's online teachers, where the recipe says so."""
    if settings is None:
        return None
    images = open_image_set(labelled)
    return online_guidance(
        trained.teachers_plus,
        images,
        labelled_rows(images, Split.TRAIN).rows,
        feature_weight=settings.feature_weight,
        score_weight=settings.score_weight,
        score_map_weight=settings.score_map_weight,
        until=settings.until,
        bfloat16=settings.bfloat16,
        runtime=settings.runtime,
        turned_apart=settings.turned_apart,
    )
