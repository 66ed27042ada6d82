"""Settings of the whole pipeline: self-training, then the student."""

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from edgefiqa.recipe import RecipeModel
from edgefiqa.train import LITE0, SelfTrainingRecipe, TeacherRuntime, TrainRecipe

__all__ = ["UNLABELLED_SETS", "DistillRecipe", "GuidanceRecipe", "PseudoSet"]

_STUDENT = "efficient-fiqa-student"
_GRID = 32


class PseudoSet(StrEnum):
    """The pseudo-labelled sets a student may learn from besides the labelled one."""

    D1 = "D1"  # labelled by the teacher
    D2 = "D2"  # labelled by teacher+
    D = "D"  # the labelled set's training images, labelled by teacher+: not in the paper


UNLABELLED_SETS = (PseudoSet.D1, PseudoSet.D2)


class GuidanceRecipe(RecipeModel):
    """What the student learns from an online teacher+, besides labels and pseudo-labels.

    An extension: the paper's student sees scores only.

    Attributes:
        feature_weight: Weight of the difference between projected and the teacher's maps; needs a
            teacher of the model ``lite0``. 0 leaves it out.
        score_weight: Weight of the squared difference to the teacher's scores of the same crops.
        score_map_weight: Weight of the squared difference to what each place (at stride 32) adds to
            that score: 81 targets of a 288² image where the score is one. Needs a ``lite0`` too.
        until: Share of the run after which the teacher is asked no more; half a cosine from 1 to 0.
            None asks to the end, undiminished.
        bfloat16: Run the teacher in bfloat16.
        runtime: What executes the teacher: ``onnxruntime`` is for CPUs, in float32.
        turned_apart: The teacher sees each crop turned and mirrored in one of eight ways, drawn
            apart from the student's. Quality does not change by that, but a teacher's error does:
            the student learns the mean over eight views, and no teacher is asked more than once.
            Each process draws for itself, like dropout: two of them do not repeat the curve of one.
    """

    feature_weight: float = Field(default=1.0, ge=0)
    score_weight: float = Field(default=0.5, ge=0)
    score_map_weight: float = Field(default=0.0, ge=0)
    until: float | None = Field(default=0.5, gt=0, le=1)
    bfloat16: bool = False
    runtime: TeacherRuntime = TeacherRuntime.TORCH
    turned_apart: bool = False

    @model_validator(mode="after")
    def _one_precision(self) -> Self:
        if self.bfloat16 and self.runtime is TeacherRuntime.ONNXRUNTIME:
            msg = "runtime: onnxruntime is float32, without bfloat16: true"
            raise ValueError(msg)
        return self


class DistillRecipe(RecipeModel):
    """Settings of the pipeline.

    Attributes:
        self_training: Teacher, teacher+ and their pseudo-labels.
        size: Short side of the images that the student sees, in pixels.
        student: Its training.
        restarts: Further trainings, each from the weights that the one before it left: warm
            restarts of the schedule (Loshchilov and Hutter 2017, arXiv 1608.03983).
        pseudo: The pseudo-labelled sets it learns from; each one's mean loss counts once, like the
            labelled set's (eq. 4). With D it also hears what teacher+ says of the labelled images.
        pseudo_weight: Weight of each one's mean loss; `self_training`'s if None.
        pseudo_batch: Images a step of each; `self_training`'s if None.
        guidance: The online teacher of the first training; none as in the paper.
        restart_guidance: The same for restarts.
    """

    self_training: SelfTrainingRecipe
    size: int = Field(ge=32)
    student: TrainRecipe
    restarts: tuple[TrainRecipe, ...] = ()
    pseudo: tuple[PseudoSet, ...] = UNLABELLED_SETS
    pseudo_weight: float | None = Field(default=None, gt=0)
    pseudo_batch: int | None = Field(default=None, gt=0)
    guidance: GuidanceRecipe | None = None
    restart_guidance: GuidanceRecipe | None = None

    @property
    def pseudo_options(self) -> dict[str, Any]:
        """What `edgefiqa.train.self_training.pseudo_set` takes for the student."""
        options = {"weight": self.pseudo_weight, "batch": self.pseudo_batch}
        changed = {name: value for name, value in options.items() if value is not None}
        return self.self_training.pseudo_options | changed

    @model_validator(mode="after")
    def _maps_fit(self) -> Self:
        """Find now what would else stop the pipeline when the student's turn comes."""
        faults = []
        for name, guidance, trainings in (
            ("guidance", self.guidance, (self.student,)),
            ("restart_guidance", self.restart_guidance, self.restarts),
        ):
            if guidance is None or not (guidance.feature_weight or guidance.score_map_weight):
                continue
            asked = "feature_weight" if guidance.feature_weight else "score_map_weight"
            needs = f"{name}.{asked} needs"
            if self.self_training.teacher_plus.model != LITE0:
                faults.append(f"{needs} a teacher_plus of the model {LITE0}")
            if any(training.model != _STUDENT for training in trainings):
                faults.append(f"{needs} a student of the model {_STUDENT}")
            if any(phase.crop % _GRID for training in trainings for phase in training.phases):
                faults.append(f"{needs} crops that are multiples of {_GRID}")
        if faults:
            raise ValueError("; ".join(faults))
        return self
