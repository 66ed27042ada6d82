"""Train the small teacher on a corpus.

::

    python -m edgefiqa.train.run RECIPE --corpus DIR --out DIR

Writes ``teacher.safetensors``, ``result.json`` and ``log.jsonl``; ``checkpoint.pt`` is there while
it runs, and running it again goes on from there.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from edgefiqa.data.batches import draw_batch
from edgefiqa.data.corpus import Corpus, Split, open_corpus
from edgefiqa.files import sha256_of, staged_path, write_text
from edgefiqa.train.evaluation import evaluate
from edgefiqa.train.loop import (
    AveragedWeights,
    MetricsLog,
    load_checkpoint,
    rate_factor,
    save_checkpoint,
    training_progress,
)
from edgefiqa.train.losses import score_loss
from edgefiqa.train.settings import RecipeModel, load_recipe
from edgefiqa.train.teacher import Lite0Scorer

__all__ = ["TeacherRecipe", "TeacherResult", "run"]

logger = logging.getLogger(__name__)


class TeacherRecipe(RecipeModel):
    """Settings of the teacher's training.

    Attributes:
        steps: Optimiser steps.
        batch: Images a step.
        crop: Side of the random crops in pixels.
        backbone_rate: Peak learning rate of the pretrained layers.
        head_rate: Peak learning rate of the new layer.
        weight_decay: AdamW's.
        warmup: Steps of warm-up.
        plcc_weight: λ of the loss.
        clip_norm: Largest gradient norm.
        average_decay: Of the averaged weights.
        pretrained: Start from ImageNet weights.
        checkpoint_every: Steps between checkpoints.
        seed: Of everything random.
        threads: Torch threads.
    """

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    crop: int = Field(ge=64)
    backbone_rate: float = Field(gt=0)
    head_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup: int = Field(ge=1)
    plcc_weight: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    average_decay: float = Field(ge=0, lt=1)
    pretrained: bool = True
    checkpoint_every: int = Field(gt=0)
    seed: int = 42
    threads: int = Field(ge=1)


@dataclass(frozen=True, kw_only=True)
class TeacherResult:
    """What a training run produced.

    Attributes:
        weights: The teacher's file.
        sha256: Its hash.
        metrics: One entry a held-back set: name, n, SRCC, PLCC.
    """

    weights: str
    sha256: str
    metrics: list[dict[str, Any]]


def _optimiser(model: Lite0Scorer, recipe: TeacherRecipe) -> torch.optim.Optimizer:
    groups = [
        {"params": model.backbone.parameters(), "peak": recipe.backbone_rate},
        {"params": model.head.parameters(), "peak": recipe.head_rate},
    ]
    return torch.optim.AdamW(groups, lr=recipe.backbone_rate, weight_decay=recipe.weight_decay)


def run(recipe: TeacherRecipe, corpus_dir: Path, out: Path) -> TeacherResult:
    """Train, or go on training, the teacher.

    Args:
        recipe: The settings.
        corpus_dir: A finished corpus.
        out: Output folder.

    Returns:
        The result, also written to ``result.json``.
    """
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    corpus = open_corpus(corpus_dir)
    rows = corpus.rows(Split.TRAIN)
    labels = torch.from_numpy(corpus.labels)
    model = Lite0Scorer(pretrained=recipe.pretrained).to(memory_format=torch.channels_last)
    optimiser, average = _optimiser(model, recipe), AveragedWeights(model, recipe.average_decay)
    settings = recipe.model_dump(mode="json")
    state, start = load_checkpoint(out / "checkpoint.pt", recipe=settings), 0
    if state:
        start = state["step"]
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
    log = MetricsLog(out / "log.jsonl", start)
    total = recipe.steps * recipe.batch
    with training_progress("teacher", done=start * recipe.batch, total=total) as bar:
        for step in range(start, recipe.steps):
            model.train()
            factor = rate_factor(step, steps=recipe.steps, warmup=recipe.warmup)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            batch = draw_batch(
                corpus.images,
                rows,
                first=step * recipe.batch,
                count=recipe.batch,
                crop=recipe.crop,
                grid=1,
                seed=recipe.seed,
            )
            target = labels[torch.from_numpy(batch.rows)]
            loss = score_loss(model(batch.images), target, plcc_weight=recipe.plcc_weight)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimiser.step()
            average.update(model, step)
            bar.advance(recipe.batch, note=f"loss {loss.item():.4f}")
            done = step + 1
            if done % recipe.checkpoint_every == 0 or done == recipe.steps:
                measured = evaluate(average.model, corpus, Split.HELD_BACK, limit=200)
                log.write(done, loss=loss, srcc=measured["srcc"], plcc=measured["plcc"])
                save_checkpoint(
                    out / "checkpoint.pt",
                    {
                        "recipe": settings,
                        "step": done,
                        "model": model.state_dict(),
                        "average": average.model.state_dict(),
                        "optimiser": optimiser.state_dict(),
                    },
                )
    return _finish(average.model, corpus, out)


def _finish(model: nn.Module, corpus: Corpus, out: Path) -> TeacherResult:
    weights = out / "teacher.safetensors"
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with staged_path(weights) as stage:
        save_file(state, stage)
    metrics = [evaluate(model, corpus, split) for split in (Split.HELD_BACK, Split.HELD_OUT_TYPES)]
    result = TeacherResult(weights=weights.name, sha256=sha256_of(weights), metrics=metrics)
    write_text(out / "result.json", json.dumps(asdict(result), indent=2) + "\n")
    return result


def _command(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    corpus: Annotated[Path, typer.Option(help="Folder of a finished corpus.")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
) -> None:
    """Train the small teacher on a corpus."""
    logging.basicConfig(level=logging.INFO)
    result = run(load_recipe(recipe, TeacherRecipe), corpus, out)
    logger.info("teacher: %s", result.metrics)


if __name__ == "__main__":
    typer.run(_command)
