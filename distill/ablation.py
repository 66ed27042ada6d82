"""What pseudo-labels and resolutions are worth: Tables 2 and 3 of Efficient-FIQA on any data.

For every seed a few labelled images are drawn by cluster, and::

    labelled ─▶ teacher ─▶ D1 ─▶ teacher+ ─▶ D2
    students on  labelled │ + D1 │ + D1 + D2           (Table 2, at the recipe's size)
                 labelled + D1 + D2 at each resolution (Table 3)

All students take the same number of steps with the same number of images, which are divided evenly
among their sets, and are measured on all held-back images. What differs is what they learned from.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgefiqa.data.image_set import ImageSet, Split, full_disk_named, open_image_set
from edgefiqa.data.subsets import derive_image_set, draw_clusters, independent_units
from edgefiqa.distill.ablation_table import MeasuredStudent, describe, render
from edgefiqa.distill.settings import UNLABELLED_SETS, DistillRecipe, PseudoSet
from edgefiqa.errors import CheckpointError
from edgefiqa.files import sha256_of, write_text
from edgefiqa.models.card import WEIGHTS_NAME
from edgefiqa.plan_file import claim_folder
from edgefiqa.train import (
    SelfTrained,
    TrainRecipe,
    labelled_source,
    load_scorer,
    pseudo_set,
    score_images,
    self_train,
    train_model,
    unlabelled_sources,
)
from edgefiqa.workers import processor_count

__all__ = ["AblationRecipe", "run"]

ARMS: tuple[tuple[PseudoSet, ...], ...] = ((), (PseudoSet.D1,), (PseudoSet.D1, PseudoSet.D2))
_SCORES = "scores.json"
_UNLABELLED_SEED = 0


class AblationRecipe(DistillRecipe):
    """Settings of the ablation: those of the pipeline, and what is repeated.

    Attributes:
        seeds: Seeds of everything random, the labelled images that are drawn included.
        labelled_images: Training images that have labels; whole clusters are drawn.
        unlabelled_images: Unlabelled images of each unlabelled set; null takes all.
        resolutions: Sizes of Table 3; crops of the student scale along.
        resamples: Number of resamples of each bootstrap.
    """

    seeds: tuple[int, ...] = Field(min_length=1)
    labelled_images: int = Field(ge=2)
    unlabelled_images: int | None = Field(default=None, ge=2)
    resolutions: tuple[int, ...] = ()
    resamples: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        faults = []
        if len(set(self.seeds)) < len(self.seeds):
            faults.append("seeds must differ")
        if self.guidance is not None or self.pseudo != UNLABELLED_SETS:
            faults.append("the ablation compares labels: no guidance, both pseudo-labelled sets")
        if any(phase.steps is None or phase.batch % 6 for phase in self.student.phases):
            faults.append("the student's phases need steps, and batches that 2 and 3 divide")
        for size in (self.size, *self.resolutions):
            crops = [_scaled(phase.crop, size, self.size) for phase in self.student.phases]
            if not all(32 <= crop <= size for crop in crops):
                faults.append(f"the student's crops are {crops} at size {size}: 32 to the size fit")
        if faults:
            raise ValueError("; ".join(faults))
        return self


@dataclass(frozen=True, kw_only=True)
class _Sets:
    """The images of all seeds.

    Attributes:
        labelled: With labels and splits, of any size.
        unlabelled: The same images for all seeds, of any size.
        out: Where sets of the sizes that are needed go.
        workers: Processes.
    """

    labelled: ImageSet
    unlabelled: tuple[ImageSet, ...]
    out: Path
    workers: int

    def labelled_at(self, size: int, count: int, seed: int) -> Path:
        """Return a seed's labelled images and all held-back ones."""
        drawn = draw_clusters(self.labelled, Split.TRAIN, count, seed=seed)
        rows = np.concatenate((drawn, self.labelled.rows(Split.HELD_BACK)))
        out = self.out / f"labelled-{size}-seed-{seed}"
        return derive_image_set(self.labelled, out, size=size, rows=rows, workers=self.workers).path

    def unlabelled_at(self, size: int, count: int | None) -> list[Path]:
        """Return the unlabelled sets at a size."""
        found = []
        for number, images in enumerate(self.unlabelled, start=1):
            # Nothing is held back of an unlabelled set; what is, is left out.
            rows = images.rows(Split.TRAIN)
            if count is not None and count < len(rows):
                rows = draw_clusters(images, Split.TRAIN, count, seed=_UNLABELLED_SEED)
            out = self.out / f"unlabelled-{number}-{size}"
            found.append(
                derive_image_set(images, out, size=size, rows=rows, workers=self.workers).path
            )
        return found


def run(
    recipe: AblationRecipe,
    labelled: Path,
    unlabelled: Sequence[Path],
    out: Path,
    *,
    labels: Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Run the ablation, or go on with an interrupted one.

    Args:
        recipe: The settings.
        labelled: An image set with labels and splits, or a folder of photographs with a label file.
        unlabelled: Two image sets or folders of photographs, or one folder, which is cut in two.
        out: Receives a folder a seed, ``ablation.json`` and ``ablation.md``.
        labels: The label file of a folder.
        workers: Processes that check, pack and label; one a core if None.

    Returns:
        What ``ablation.json`` holds.

    Raises:
        DataError: Images or labels cannot be used, or sets are not disjoint.
        UsageError: A set is too small, or the number of unlabelled sets is wrong.
        CheckpointError: `out` holds an ablation of another recipe or of other images.
    """
    workers = workers or processor_count()
    largest = max(recipe.size, recipe.self_training.size, *recipe.resolutions, 0)
    sources = (
        labelled_source(labelled, labels, out / "sets", workers=workers),
        *unlabelled_sources(unlabelled, out / "sets", workers=workers),
    )
    labelled_images, *others = [
        open_image_set(source.no_smaller_than(largest)) for source in sources
    ]
    identities = [images.identity for images in (labelled_images, *others)]
    plan = {"recipe": recipe.model_dump(mode="json"), "sets": identities}
    holds = "an ablation of another recipe or of other sets"
    claim_folder(out, plan, holds=holds, error=CheckpointError)
    sets = _Sets(
        labelled=labelled_images, unlabelled=tuple(others), out=out / "sets", workers=workers
    )
    measured = [
        student
        for seed in recipe.seeds
        for student in _run_seed(recipe, seed, sets, out / f"seed-{seed}")
    ]
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "data": _describe_data(recipe, sets, identities),
        **describe(measured, resolutions=recipe.resolutions, resamples=recipe.resamples),
    }
    with full_disk_named(out):
        write_text(out / "ablation.json", json.dumps(record, indent=2) + "\n")
        write_text(out / "ablation.md", render(record))
    return record


def _describe_data(
    recipe: AblationRecipe, sets: _Sets, identities: Sequence[str]
) -> dict[str, Any]:
    """Return which images were trained on, for the record."""
    images = sets.labelled
    return {
        "labelled": {"identity": images.identity, "label": images.meta.get("label")},
        "unlabelled": list(identities[1:]),
        "labelled_images": [
            len(draw_clusters(images, Split.TRAIN, recipe.labelled_images, seed=seed))
            for seed in recipe.seeds
        ],
        "unlabelled_images": [
            len(open_image_set(path))
            for path in sets.unlabelled_at(recipe.size, recipe.unlabelled_images)
        ],
    }


def _run_seed(
    recipe: AblationRecipe, seed: int, sets: _Sets, out: Path
) -> Iterable[MeasuredStudent]:
    """Train teachers and students of one seed; yield what was measured."""
    settings = recipe.self_training.model_copy(update={"seeds": (seed,)})
    size = settings.size
    students = dict.fromkeys([(arm, recipe.size) for arm in ARMS])
    students |= dict.fromkeys([(ARMS[-1], resolution) for resolution in recipe.resolutions])
    folders = {key: out / _name(*key) for key in students}
    if not all((folder / _SCORES).exists() for folder in folders.values()):
        trained = self_train(
            settings,
            sets.labelled_at(size, recipe.labelled_images, seed),
            sets.unlabelled_at(size, recipe.unlabelled_images),
            out,
            workers=sets.workers,
        )
        for (arm, resolution), folder in folders.items():
            if not (folder / _SCORES).exists():
                _train_student(recipe, arm, resolution, seed, sets, trained, folder)
    for (arm, resolution), folder in folders.items():
        yield _read(folder, sets.labelled, arm=arm, size=resolution, seed=seed)


def _name(arm: Sequence[PseudoSet], size: int) -> str:
    return "-".join(["student", "labelled", *(name.value for name in arm), str(size)])


def _scaled(crop: int, size: int, number: int) -> int:
    return crop * size // number


def _student_recipe(recipe: AblationRecipe, sets: int, size: int, seed: int) -> TrainRecipe:
    """Divide the batches among the sets, so that every student sees equally many images."""
    phases = [
        phase.model_copy(
            update={"batch": phase.batch // sets, "crop": _scaled(phase.crop, size, recipe.size)}
        )
        for phase in recipe.student.phases
    ]
    return recipe.student.model_copy(update={"phases": tuple(phases), "seed": seed})


def _train_student(
    recipe: AblationRecipe,
    arm: Sequence[PseudoSet],
    size: int,
    seed: int,
    sets: _Sets,
    trained: SelfTrained,
    out: Path,
) -> None:
    """Train one student and write its scores of all held-back images, last of all."""
    labelled = sets.labelled_at(size, recipe.labelled_images, seed)
    paths = sets.unlabelled_at(size, recipe.unlabelled_images) if arm else []
    options = {**recipe.self_training.pseudo_options, "batch": None}
    pseudo = [
        pseudo_set(name.value, open_image_set(path), folder, **options)
        for name, path, folder in zip(UNLABELLED_SETS, paths, trained.labels, strict=False)
        if name in arm
    ]
    result = train_model(
        _student_recipe(recipe, 1 + len(pseudo), size, seed), labelled, out, pseudo=pseudo
    )
    images = open_image_set(labelled)
    rows = images.rows(Split.HELD_BACK)
    scores = score_images(load_scorer(out), images, rows, views=recipe.student.views)
    found = {
        "sha256": result.sha256,
        "steps": result.steps,
        "scores": {
            images.records[row]["key"]: float(s) for row, s in zip(rows, scores, strict=True)
        },
    }
    with full_disk_named(out):
        write_text(out / _SCORES, json.dumps(found) + "\n")


def _read(
    folder: Path, images: ImageSet, *, arm: Sequence[PseudoSet], size: int, seed: int
) -> MeasuredStudent:
    """Read a finished student's scores."""
    found = json.loads((folder / _SCORES).read_text(encoding="utf-8"))
    if sha256_of(folder / WEIGHTS_NAME) != found["sha256"]:
        raise CheckpointError(
            "these are not the weights that were measured",
            value=folder / WEIGHTS_NAME,
            next_step=f"remove {folder} and run the same command",
        )
    rows: NDArray[np.int64] = images.rows(Split.HELD_BACK)
    scores = np.array([found["scores"][images.records[row]["key"]] for row in rows])
    return MeasuredStudent(
        arm=tuple(name.value for name in arm),
        size=size,
        seed=seed,
        sha256=found["sha256"],
        steps=found["steps"],
        scores=scores,
        labels=images.labels[rows].astype(np.float64),
        clusters=independent_units(images)[rows],
    )
