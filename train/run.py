"""Train one model on a labelled image set (and pseudo-labelled ones).

``edgefiqa train RECIPE --data SET --out DIR`` comes here by way of ``edgefiqa.train.stages``.

Writes ``model.safetensors``, ``card.json`` and ``result.json`` beside what `fit` writes. Running it
again goes on from ``checkpoint.pt``.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from edgefiqa.data.image_set import ImageSet, Split, open_image_set
from edgefiqa.files import sha256_of, write_text
from edgefiqa.models import ModelCard, save_model
from edgefiqa.models.card import CARD_NAME, WEIGHTS_NAME
from edgefiqa.train.cards import CardText
from edgefiqa.train.checkpoints import disk_faults
from edgefiqa.train.evaluation import evaluate
from edgefiqa.train.guidance import Guidance
from edgefiqa.train.loop import FitResult, fit
from edgefiqa.train.parallel import processes
from edgefiqa.train.scorers import build_scorer, start_from, weights_file
from edgefiqa.train.sets import TrainingSet, labelled_rows
from edgefiqa.train.settings import TrainRecipe

__all__ = ["RESULT_NAME", "TrainResult", "run"]

RESULT_NAME = "result.json"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training run left.

    Attributes:
        directory: Holds the weights and their card.
        sha256: SHA-256 of the weights.
        metrics: One entry a held-back split: split, n, SRCC, PLCC, sha256 of what was measured.
        best: Step and held-back figures the weights were chosen by.
        steps: Optimiser steps.
        images_per_second: Images per second of the training steps.
        command: How it was run.
    """

    directory: str
    sha256: str
    metrics: list[dict[str, Any]]
    best: dict[str, Any]
    steps: int
    images_per_second: float
    command: str


def run(
    recipe: TrainRecipe,
    labelled: Path,
    out: Path,
    *,
    pseudo: Sequence[TrainingSet] = (),
    sets: Sequence[TrainingSet] | None = None,
    initial: Path | None = None,
    guidance: Guidance | None = None,
    text: CardText | None = None,
) -> TrainResult:
    """Train, or go on training, a model.

    Args:
        recipe: The settings.
        labelled: An image set with labels and splits.
        out: Output folder.
        pseudo: Pseudo-labelled sets; each one's mean loss counts once, like the labelled set's.
        sets: What to train on instead of the labelled set's training split and `pseudo`.
        initial: A trained scorer of the same model to start from, instead of ImageNet weights.
        guidance: An online teacher.
        text: The words of the card.

    Returns:
        The result, also written to ``result.json``.
    """
    images = open_image_set(labelled)
    sets = sets or [labelled_rows(images, Split.TRAIN, name="labelled"), *pseudo]
    parents = {
        "sets": {chosen.name: chosen.identity for chosen in sets},
        "initial": None if initial is None else sha256_of(weights_file(initial)),
        "guidance": None if guidance is None else guidance.identity,
    }
    card = _card(images, recipe, text or _unnamed(out, images), parents)
    finished = _finished(out, card)
    if finished is not None:
        return finished
    model = build_scorer(
        recipe.model,
        pretrained=recipe.pretrained and initial is None,
        seed=recipe.seed,
        layer_scale=recipe.layer_scale,
    )
    if initial is not None:
        start_from(model, initial)
    held_back = labelled_rows(images, Split.HELD_BACK)
    fitted = fit(model, sets, held_back, recipe, out, guidance=guidance)
    return _describe(model, images, recipe, fitted, out, card)


def _finished(out: Path, card: ModelCard) -> TrainResult | None:
    """Return the result of this very run, if it is finished and its weights are untouched."""
    if not all((out / name).is_file() for name in (RESULT_NAME, CARD_NAME, WEIGHTS_NAME)):
        return None
    known = ModelCard.load(out / CARD_NAME)
    words = {entry["split"]: entry["data"] for entry in card.metrics}
    metrics = [{**entry, "data": words.get(entry["split"])} for entry in known.metrics]
    measured = card.model_copy(update={"sha256": known.sha256, "metrics": metrics})
    same = known.model_dump(mode="json") == measured.model_dump(mode="json")
    if not same or sha256_of(out / WEIGHTS_NAME) != known.sha256:
        return None
    return TrainResult(**json.loads((out / RESULT_NAME).read_text(encoding="utf-8")))


def _unnamed(out: Path, images: ImageSet) -> CardText:
    source = str(images.meta.get("source") or "an image set that does not say its source")
    return CardText(
        name=out.name,
        version="0",
        description="Trained by edgefiqa.train.run; see provenance.",
        training_data=source,
        licence="not stated",
    )


def _card(
    images: ImageSet, recipe: TrainRecipe, text: CardText, parents: dict[str, Any]
) -> ModelCard:
    """Return the card without figures, which are measured later."""
    return ModelCard(
        model=recipe.model,
        name=text.name,
        version=text.version,
        description=text.description,
        size=images.size,
        training_data=text.training_data,
        licence=text.licence,
        metrics=[
            {"split": Split.HELD_BACK.value, "data": text.held_back},
            {"split": Split.HELD_OUT_TYPES.value, "data": text.held_out_types},
        ],
        provenance={
            "recipe": recipe.model_dump(mode="json"),
            "image_set_index_sha256": images.identity,
            "image_set": {k: v for k, v in images.meta.items() if k not in ("shards", "skipped")},
            "label": images.meta.get("label"),
            **parents,
            "commands": list(text.commands),
            "packages": {name: version(name) for name in ("torch", "timm", "accelerate", "numpy")},
        },
    )


def _describe(
    model: nn.Module,
    images: ImageSet,
    recipe: TrainRecipe,
    fitted: FitResult,
    out: Path,
    card: ModelCard,
) -> TrainResult:
    """Measure the best weights on all held-back images; write them, their card and the result."""
    main = processes().is_main_process
    metrics = [
        {**entry, **evaluate(model, images, images.rows(Split(entry["split"])), views=recipe.views)}
        for entry in (card.metrics if main else [])
        if len(images.rows(Split(entry["split"])))
    ]
    card = card.model_copy(update={"metrics": metrics})
    if main:
        with disk_faults(out):
            card = save_model(model, out, card)
    result = TrainResult(
        directory=str(out),
        sha256=card.sha256,
        metrics=[{**entry, "sha256": card.sha256} for entry in metrics],
        best=fitted.metrics,
        steps=fitted.steps,
        images_per_second=round(fitted.images_per_second, 2),
        command=" ".join(sys.argv),
    )
    if main:
        write_text(out / RESULT_NAME, json.dumps(asdict(result), indent=2) + "\n")
    processes().wait_for_everyone()
    return result
