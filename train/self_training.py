"""Self-training (Efficient-FIQA): a teacher labels images, learns from them, and labels more.

::

    labelled D ─▶ teacher ─▶ labels of D1 ─▶ teacher+ on D ∪ D1 ─▶ labels of D2
                                                     (eq. 3)           │
    student's supervision: D ∪ D1 ∪ D2 (eq. 4) ◀───────────────────────┘

Each set's mean loss counts once, whatever its size. Raw scores of a teacher pass a four-parameter
logistic map that is fitted on the labelled set. Every step writes a folder of `out` and is resumed
where it stopped, so the whole loop is started again with the same command.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from edgefiqa.data.image_set import ImageSet, Split, open_image_set
from edgefiqa.errors import DataError, UsageError
from edgefiqa.recipe import RecipeModel
from edgefiqa.train.chunk_scoring import LabelSettings
from edgefiqa.train.frozen_teacher import TeacherRuntime
from edgefiqa.train.label_table import assert_disjoint, keep_confident, read_labels, scores_of
from edgefiqa.train.parallel import processes
from edgefiqa.train.pseudo_labels import label_images
from edgefiqa.train.run import run as train
from edgefiqa.train.sets import TrainingSet
from edgefiqa.train.settings import TrainRecipe
from edgefiqa.train.tracking import training_progress

__all__ = [
    "SelfTrained",
    "SelfTrainingRecipe",
    "label",
    "label_sets",
    "pseudo_set",
    "self_train",
]

logger = logging.getLogger(__name__)


class SelfTrainingRecipe(RecipeModel):
    """Settings of the loop.

    Attributes:
        size: Short side of the images that teachers see, in pixels.
        teacher: Training of the teacher on the labelled set.
        teacher_plus: Training of teacher+ on the labelled and the first pseudo-labelled set.
        from_teacher: Teacher+ starts from the teacher's weights, not as `teacher_plus` says.
        seeds: One teacher a seed; their scores are averaged, and how far they are apart is the
            pseudo-label's spread. The paper has one.
        views: 1 scores each image, 2 its mirror image too.
        runtime: What executes teachers that label: ``onnxruntime`` is for CPUs.
        keep_share: Share of the pseudo-labels to train on, those with the least spread.
        pseudo_weight: Weight of a pseudo-labelled set's mean loss beside the labelled set's 1. The
            paper's is 1; a teacher that is weaker than the labels deserves less.
        pseudo_batch: Images a step of each pseudo-labelled set; as many as labelled ones if None.
    """

    size: int = Field(ge=32)
    teacher: TrainRecipe
    teacher_plus: TrainRecipe
    from_teacher: bool = True
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(42,), min_length=1)
    views: int = Field(default=1, ge=1, le=2)
    runtime: TeacherRuntime = TeacherRuntime.TORCH
    keep_share: float = Field(default=1.0, gt=0, le=1)
    pseudo_weight: float = Field(default=1.0, gt=0)
    pseudo_batch: int | None = Field(default=None, gt=0)

    @property
    def pseudo_options(self) -> dict[str, Any]:
        """What `pseudo_set` takes."""
        return {
            "keep_share": self.keep_share,
            "weight": self.pseudo_weight,
            "batch": self.pseudo_batch,
        }

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Find now what would else stop the loop after hours of training."""
        faults = []
        if self.from_teacher and self.teacher.model != self.teacher_plus.model:
            faults.append("from_teacher needs one model for teacher and teacher_plus")
        if len(set(self.seeds)) < len(self.seeds):
            faults.append("seeds must differ: equal ones give one teacher twice")
        if self.keep_share < 1 and len(self.seeds) == self.views == 1:
            faults.append("keep_share below 1 needs two seeds or two views to tell a spread")
        if faults:
            raise ValueError("; ".join(faults))
        return self


@dataclass(frozen=True, kw_only=True)
class SelfTrained:
    """What the loop left.

    Attributes:
        teachers: Folders of the first teachers; none where trained ones were handed over.
        teachers_plus: Folders of the strengthened ones.
        labels: Folders of the two sets of pseudo-labels, first D1's.
    """

    teachers: tuple[Path, ...]
    teachers_plus: tuple[Path, ...]
    labels: tuple[Path, Path]


def self_train(
    recipe: SelfTrainingRecipe,
    labelled: Path,
    unlabelled: Sequence[Path],
    out: Path,
    *,
    workers: int | None = None,
    same_photos: bool = True,
    initial: Path | None = None,
) -> SelfTrained:
    """Run the loop, or go on with an interrupted one.

    Args:
        recipe: The settings.
        labelled: An image set with labels and splits, of `recipe.size`.
        unlabelled: Two image sets of the same size; their labels, if any, are not looked at.
        out: Receives ``teacher…``, ``labels-1``, ``teacher-plus…`` and ``labels-2``.
        workers: Processes that label; one a core if None.
        same_photos: All sets were made from one folder, see `assert_disjoint`.
        initial: A trained teacher to start from, instead of the recipe's weights.

    Returns:
        Where everything lies.

    Raises:
        DataError: The sets share images, an unlabelled set holds a held-back photograph, or there
            are not two of them.
        UsageError: A set is of another size.
    """
    sets = _open_sets(recipe, labelled, unlabelled, same_photos=same_photos)
    teachers = [
        _train(
            recipe.teacher, seed, labelled, out / _folder("teacher", seed, recipe), initial=initial
        )
        for seed in recipe.seeds
    ]
    first, second = out / "labels-1", out / "labels-2"
    label(recipe, teachers, unlabelled[0], first, calibrate=labelled, workers=workers)
    pseudo = pseudo_set("D1", sets[0], first, **recipe.pseudo_options)
    plus = [
        _train(
            recipe.teacher_plus,
            seed,
            labelled,
            out / _folder("teacher-plus", seed, recipe),
            pseudo=[pseudo],
            initial=teacher if recipe.from_teacher else None,
        )
        for seed, teacher in zip(recipe.seeds, teachers, strict=True)
    ]
    label(recipe, plus, unlabelled[1], second, calibrate=labelled, workers=workers)
    return SelfTrained(teachers=tuple(teachers), teachers_plus=tuple(plus), labels=(first, second))


def label_sets(
    recipe: SelfTrainingRecipe,
    teachers: Sequence[Path],
    labelled: Path,
    unlabelled: Sequence[Path],
    out: Path,
    *,
    workers: int | None = None,
    same_photos: bool = True,
) -> SelfTrained:
    """Have teachers that are already trained label both sets, or go on with it; train none.

    Args:
        recipe: Says at what size, and whether mirror images are scored too.
        teachers: Their folders; scores are averaged.
        labelled: An image set with labels and splits, of `recipe.size`.
        unlabelled: Two image sets of the same size.
        out: Receives ``labels-1`` and ``labels-2``.
        workers: Processes that label; one a core if None.
        same_photos: All sets were made from one folder, see `assert_disjoint`.

    Returns:
        Where everything lies.

    Raises:
        DataError, UsageError: As `self_train`.
    """
    _open_sets(recipe, labelled, unlabelled, same_photos=same_photos)
    first, second = out / "labels-1", out / "labels-2"
    for source, into in zip(unlabelled, (first, second), strict=True):
        label(recipe, teachers, source, into, calibrate=labelled, workers=workers)
    return SelfTrained(teachers=(), teachers_plus=tuple(teachers), labels=(first, second))


def _open_sets(
    recipe: SelfTrainingRecipe, labelled: Path, unlabelled: Sequence[Path], *, same_photos: bool
) -> list[ImageSet]:
    """Open the unlabelled sets, once it is known that all fit together."""
    if len(unlabelled) != 2:
        raise DataError("self-training needs two unlabelled sets", value=len(unlabelled))
    sets = [open_image_set(path) for path in unlabelled]
    # Numbered, so that one path named twice is two sets with the same pixels.
    named = {f"D{n}, {images.path}": images for n, images in enumerate(sets, start=1)}
    labelled_images = open_image_set(labelled)
    for images in (labelled_images, *sets):
        if images.size != recipe.size:
            raise UsageError(
                "an image set has another size than the recipe asks for",
                value=f"{images.path}: {images.size}",
                allowed=str(recipe.size),
            )
    assert_disjoint(labelled_images, named, same_photos=same_photos)
    return sets


def label(
    recipe: SelfTrainingRecipe,
    teachers: Sequence[Path],
    source: Path,
    out: Path,
    *,
    calibrate: Path,
    workers: int | None = None,
) -> None:
    """Label a set with trained teachers, or go on with it; one process does, the others wait.

    Args:
        recipe: Says at what size, and whether mirror images are scored too.
        teachers: Their folders; scores are averaged.
        source: The image set.
        out: Folder of the labels.
        calibrate: The labelled set that the logistic map is fitted on.
        workers: Processes; one a core if None.
    """
    state, name = processes(), f"labels of {source.name}"
    with (
        state.main_process_first(),
        training_progress(name, done=0, total=0, enabled=state.is_main_process) as bar,
    ):
        label_images(
            list(teachers),
            source,
            out,
            settings=LabelSettings(size=recipe.size, views=recipe.views, runtime=recipe.runtime),
            calibrate=calibrate,
            workers=workers,
            on_progress=bar.set,
        )


def _folder(stem: str, seed: int, recipe: SelfTrainingRecipe) -> str:
    return stem if len(recipe.seeds) == 1 else f"{stem}-{seed}"


def _train(
    recipe: TrainRecipe,
    seed: int,
    labelled: Path,
    out: Path,
    *,
    pseudo: Sequence[TrainingSet] = (),
    initial: Path | None = None,
) -> Path:
    result = train(
        recipe.model_copy(update={"seed": seed}), labelled, out, pseudo=pseudo, initial=initial
    )
    logger.info("%s: %s", out.name, result.metrics)
    return out


def pseudo_set(
    name: str,
    images: ImageSet,
    labels: Path,
    *,
    keep_share: float = 1.0,
    weight: float = 1.0,
    batch: int | None = None,
    split: Split | None = None,
) -> TrainingSet:
    """Join an image set and its pseudo-labels to what training takes.

    Args:
        name: For messages and the log.
        images: The set; it may be of another size than the one that was labelled.
        labels: What `label_images` wrote.
        keep_share: Share of the pseudo-labels to keep, those with the least spread.
        weight: Weight of the set's mean loss.
        batch: Images a step; the phase's if None.
        split: Only images of this split; all if None.

    Returns:
        Rows and targets; images without a score are left out.

    Raises:
        DataError: A labelled image is not in the set.
    """
    rows, _ = read_labels(labels)
    kept = keep_confident(rows, share=keep_share if keep_share < 1 else None)
    places = {key: row for row, key in enumerate(images.keys)}
    missing = [rows[i].image for i in kept if rows[i].image not in places]
    if missing:
        found = f"{', '.join(missing[:3])} ({len(missing)} in all)"
        raise DataError(f"labelled images are not in {images.path}", value=found)
    if split is not None:
        kept = [i for i in kept if images.splits[places[rows[i].image]] == split.value]
    return TrainingSet(
        name=name,
        images=images,
        rows=np.array([places[rows[i].image] for i in kept], np.int64),
        targets=scores_of([rows[i] for i in kept]),
        weight=weight,
        batch=batch,
    )
