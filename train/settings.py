"""Settings of training, as recipes hold them."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.recipe import RecipeModel
from edgefiqa.train.losses import build_loss

__all__ = [
    "CosineSchedule",
    "MixedPrecision",
    "Optimiser",
    "ResolutionPhase",
    "Schedule",
    "Select",
    "StagedRecipe",
    "StepSchedule",
    "TrainRecipe",
    "TrainingStage",
    "View",
]


class MixedPrecision(StrEnum):
    """Arithmetic of the forward pass; weights, optimiser, scores and losses are float32."""

    FLOAT32 = "no"
    BFLOAT16 = "bf16"
    FLOAT16 = "fp16"


class Optimiser(StrEnum):
    """Optimisers by name."""

    ADAMW = "adamw"
    ADAM = "adam"
    MUON = "muon"  # NAdamW for what is no matrix, and for what is new


class Select(StrEnum):
    """What the best weights are chosen by, on the held-back images."""

    SRCC_PLCC = "srcc_plcc"
    SRCC = "srcc"


class View(StrEnum):
    """Test-time views whose scores are averaged."""

    PLAIN = "plain"
    MIRRORED = "mirrored"


class ResolutionPhase(RecipeModel):
    """A part of a run with one image size: ``steps`` or ``epochs``, one of the two.

    Attributes:
        steps: Optimiser steps.
        epochs: Passes over the first (labelled) set.
        batch: Images a step of each set, over all processes.
        crop: Side of the crops in pixels; the set's size means whole (square) images.
        turned: Turn crops by random quarter turns: full-reference labels do not change by that, and
            photographs are harder to learn by heart.
    """

    steps: int | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    batch: int = Field(gt=0)
    crop: int = Field(ge=32)
    turned: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            msg = "a phase has either steps or epochs"
            raise ValueError(msg)
        return self


class StepSchedule(RecipeModel):
    """The rate falls by a factor every few epochs of the first set.

    Attributes:
        kind: ``step``.
        every_epochs: Epochs between two falls.
        gamma: The factor.
        warmup: Steps of linear warm-up.
    """

    kind: Literal["step"]
    every_epochs: float = Field(default=10, gt=0)
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup: int = Field(default=0, ge=0)


class CosineSchedule(RecipeModel):
    """Linear warm-up, then half a cosine down to a floor.

    Attributes:
        kind: ``cosine``.
        warmup: Steps of warm-up.
        floor: Share of the rate that is left at the end.
    """

    kind: Literal["cosine"]
    warmup: int = Field(default=0, ge=0)
    floor: float = Field(default=0.01, ge=0, le=1)


Schedule = Annotated[StepSchedule | CosineSchedule, Field(discriminator="kind")]


class TrainRecipe(RecipeModel):
    """Settings of one training run.

    Attributes:
        model: A name of ``edgefiqa models``, ``timm:<backbone>`` or ``lite0``.
        pretrained: Start from ImageNet weights.
        layer_scale: What layer scales start from, where the model has any (timm's EdgeNeXt: 1e-6,
            slow from random weights); null leaves the model's default.
        loss: A name of `edgefiqa.train.losses.LOSSES`.
        loss_options: Values of its keyword parameters.
        phases: Crops first, whole images last.
        optimiser: By name.
        rate: Peak learning rate.
        head_rate: Peak learning rate of the new head; the same as `rate` if null.
        weight_decay: The optimiser's.
        decay_one_dimensional: Whether it also holds for biases, norms and layer scales.
        schedule: Schedule of the learning rates.
        clip_norm: Largest gradient norm; null does not clip.
        average_decay: Decay of the exponential moving average of the weights, which is then
            measured and kept; null keeps the weights themselves.
        precision: Mixed precision of the forward pass.
        select: What the best weights are chosen by.
        views: Test-time views whose scores are averaged.
        evaluate_every: Steps between measurements; null measures after every epoch.
        evaluate_limit: Measure on about this many held-back images, evenly spread; null on all.
        checkpoint_every: Steps between checkpoints; null writes one after every measurement.
        log_every: Steps between lines of the log.
        sync_batch_norm: Batch norm over all processes (CUDA only).
        seed: Seed of everything random.
        threads: Torch threads; null leaves torch's choice.
    """

    model: str
    pretrained: bool = False
    layer_scale: float | None = Field(default=None, gt=0)
    loss: str = "mse_plcc"
    loss_options: dict[str, float] = Field(default_factory=dict)
    phases: tuple[ResolutionPhase, ...] = Field(min_length=1)
    optimiser: Optimiser = Optimiser.ADAMW
    rate: float = Field(gt=0)
    head_rate: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    decay_one_dimensional: bool = True
    schedule: Schedule
    clip_norm: float | None = Field(default=None, gt=0)
    average_decay: float | None = Field(default=None, ge=0, lt=1)
    precision: MixedPrecision = MixedPrecision.FLOAT32
    select: Select = Select.SRCC_PLCC
    views: tuple[View, ...] = Field(default=(View.PLAIN,), min_length=1)
    evaluate_every: int | None = Field(default=None, gt=0)
    evaluate_limit: int | None = Field(default=None, ge=2)
    checkpoint_every: int | None = Field(default=None, gt=0)
    log_every: int = Field(default=10, gt=0)
    sync_batch_norm: bool = False
    seed: int = Field(default=42, ge=0)
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _known_loss(self) -> Self:
        try:
            build_loss(self.loss, self.loss_options)
        except EdgeFiqaError as fault:
            raise ValueError(str(fault)) from fault
        return self


class TrainingStage(RecipeModel):
    """One stage of multi-stage training; it starts from the best weights of the one before.

    Attributes:
        name: Name of the stage and of its folder.
        size: Short side of the images in pixels.
        sets: Names of the sets that are new in this stage.
        replay: Images a step from the sets of earlier stages, as a share of the batch.
        train: Its settings.
    """

    name: str
    size: int = Field(ge=32)
    sets: tuple[str, ...] = Field(min_length=1)
    replay: float = Field(default=0.0, ge=0, le=1)
    train: TrainRecipe


class StagedRecipe(RecipeModel):
    """Multi-stage progressive training.

    Attributes:
        stages: In order; all of one model.
    """

    stages: tuple[TrainingStage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        models = {stage.train.model for stage in self.stages}
        names = [stage.name for stage in self.stages]
        if len(models) > 1 or len(set(names)) < len(names):
            msg = "stages share one model and have different names"
            raise ValueError(msg)
        return self
