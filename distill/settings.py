"""Settings of the distillation, and the words of the student's card."""

from enum import StrEnum

from pydantic import Field

from edgefiqa.train import RecipeModel

__all__ = ["GRID", "UNNAMED", "CardText", "DistillRecipe", "Phase", "Precision"]

GRID = 32
"""Crops start at multiples of the coarsest stride, so that stored maps fit them."""


class Precision(StrEnum):
    """Arithmetic of the forward pass; weights and optimiser are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Phase(RecipeModel):
    """A part of the run with its own image size.

    Attributes:
        steps: Optimiser steps.
        batch: Images a step.
        crop: Side of the crops in pixels, a multiple of 32; the corpus' size means whole images.
    """

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    crop: int = Field(ge=64, multiple_of=GRID)


class DistillRecipe(RecipeModel):
    """Settings of the distillation.

    Attributes:
        phases: Crops first, whole images last.
        rate: Peak learning rate.
        weight_decay: AdamW's.
        warmup: Steps of warm-up.
        clip_norm: Largest gradient norm.
        average_decay: Of the averaged weights, which are the result.
        layer_scale: What EdgeNeXt's layer scale starts from (timm: 1e-6, slow from random weights).
        label_weight: Weight of the score loss against the labels.
        teacher_weight: Weight of the squared difference to the teacher's scores.
        feature_weight: Weight of the map loss.
        guidance_end: What is left of the last two weights at the end (half a cosine between): the
            teacher shows the way, the labels have the last word.
        plcc_weight: λ of the score loss.
        precision: Of the forward pass.
        checkpoint_every: Steps between checkpoints and measurements.
        seed: Of everything random.
        threads: Torch threads.
    """

    phases: tuple[Phase, ...] = Field(min_length=1)
    rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: int = Field(ge=1)
    clip_norm: float = Field(gt=0)
    average_decay: float = Field(ge=0, lt=1)
    layer_scale: float = Field(gt=0)
    label_weight: float = Field(ge=0)
    teacher_weight: float = Field(ge=0)
    feature_weight: float = Field(ge=0)
    guidance_end: float = Field(ge=0, le=1)
    plcc_weight: float = Field(ge=0)
    precision: Precision
    checkpoint_every: int = Field(gt=0)
    seed: int = 42
    threads: int = Field(ge=1)

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)


class CardText(RecipeModel):
    """What only a person knows about a student: see `edgefiqa.models.ModelCard`.

    Attributes:
        name: Of the weights.
        version: Of the weights.
        description: What it is, how it was made, what it is not for.
        training_data: The data, named, and where its labels come from.
        licence: SPDX identifier of the weights.
        held_back: What the held-back figures were measured on.
        held_out_types: What the figures on left-out kinds of degradation were measured on.
        commands: How to make these weights again.
    """

    name: str
    version: str
    description: str
    training_data: str
    licence: str
    held_back: str
    held_out_types: str
    commands: tuple[str, ...] = ()


UNNAMED = CardText(
    name="student",
    version="0",
    description="EdgeNeXt-XX-Small face quality scorer, distilled from EfficientNet-Lite0.",
    training_data="an unnamed corpus of photographs with synthetic degradations; labels are "
    "full-reference metrics against the original, no human labels",
    licence="not stated",
    held_back="held-back photographs of the corpus, no human labels",
    held_out_types="held-back photographs, kinds of degradation left out of training, no human "
    "labels",
)
