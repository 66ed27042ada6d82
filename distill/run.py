"""Train the student from random weights on labels, teacher scores and teacher maps.

::

    python -m edgefiqa.distill.run RECIPE --corpus DIR --teacher FILE --card FILE --out DIR

Writes ``model.safetensors``, ``card.json`` and ``training_log.jsonl``. ``checkpoint.pt`` and the
teacher's stored maps are there while it runs, and running it again goes on from there.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file
from torch import Tensor, nn

from edgefiqa.data.batches import Batch, draw_batch
from edgefiqa.data.corpus import Corpus, Split, open_corpus
from edgefiqa.distill.features import (
    FeatureCache,
    Projections,
    build_feature_cache,
    feature_loss,
    student_maps,
)
from edgefiqa.distill.settings import GRID, UNNAMED, CardText, DistillRecipe, Phase, Precision
from edgefiqa.files import sha256_of
from edgefiqa.models import ModelCard, build, save_model
from edgefiqa.train import (
    AveragedWeights,
    Lite0Scorer,
    MetricsLog,
    evaluate,
    load_checkpoint,
    load_recipe,
    rate_factor,
    save_checkpoint,
    score_loss,
    training_progress,
)

__all__ = [
    "CardText",
    "DistillRecipe",
    "DistillResult",
    "Phase",
    "Precision",
    "load_teacher",
    "run",
]

logger = logging.getLogger(__name__)

STUDENT = "efficient-fiqa-student"
STUDENT_CHANNELS = (48, 88, 168)


@dataclass(frozen=True, kw_only=True)
class DistillResult:
    """What a run produced.

    Attributes:
        directory: Holds the weights, their card and the log.
        card: The card as written.
    """

    directory: Path
    card: ModelCard


@dataclass(frozen=True, kw_only=True)
class _Step:
    number: int
    first: int
    phase: Phase


def _steps(recipe: DistillRecipe, start: int) -> Iterator[_Step]:
    number, first = 0, 0
    for phase in recipe.phases:
        for _ in range(phase.steps):
            if number >= start:
                yield _Step(number=number, first=first, phase=phase)
            number, first = number + 1, first + phase.batch


def load_teacher(path: Path) -> Lite0Scorer:
    """Load what the train stage wrote.

    Args:
        path: ``teacher.safetensors``.

    Returns:
        The teacher in evaluation mode, frozen.
    """
    teacher = Lite0Scorer(pretrained=False)
    teacher.load_state_dict(load_file(path))
    teacher.to(memory_format=torch.channels_last)
    return teacher.eval().requires_grad_(False)


def _build_student(recipe: DistillRecipe) -> nn.Module:
    torch.manual_seed(recipe.seed)
    student = build(STUDENT)
    for name, parameter in student.named_parameters():
        if name.endswith(("gamma", "gamma_xca")):
            nn.init.constant_(parameter, recipe.layer_scale)
        # A new scorer starts at the middle of the labels, not at zero.
        if name == "head.1.bias":
            nn.init.constant_(parameter, 0.5)
    return student.to(memory_format=torch.channels_last)


def _optimiser(modules: nn.ModuleDict, recipe: DistillRecipe) -> torch.optim.Optimizer:
    parameters = list(modules.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate)


def _losses(
    modules: nn.ModuleDict, batch: Batch, labels: Tensor, cache: FeatureCache, recipe: DistillRecipe
) -> dict[str, Tensor]:
    """Compute the three losses of one batch."""
    targets, teacher_scores = cache.targets(batch)
    student = modules["student"]
    with torch.autocast(
        "cpu", dtype=torch.bfloat16, enabled=recipe.precision is Precision.BFLOAT16
    ):
        maps = student_maps(student.get_submodule("backbone"), batch.images)
        projected = modules["projections"](maps)
    # In float32: bfloat16 knows only 256 scores between 0.5 and 1.
    scores = student.get_submodule("head")(maps[-1].float().mean((2, 3))).squeeze(1)
    return {
        "label": score_loss(scores, labels, plcc_weight=recipe.plcc_weight),
        "teacher": (scores - teacher_scores).square().mean(),
        "feature": feature_loss(projected, targets),
    }


def _guidance(recipe: DistillRecipe, step: int) -> float:
    """Return the share of the teacher's weights that holds at a step."""
    left = (1 + math.cos(math.pi * step / recipe.steps)) / 2
    return recipe.guidance_end + left * (1 - recipe.guidance_end)


def run(
    recipe: DistillRecipe,
    corpus_dir: Path,
    teacher_file: Path,
    out: Path,
    *,
    text: CardText = UNNAMED,
) -> DistillResult:
    """Train, or go on training, the student.

    Args:
        recipe: The settings.
        corpus_dir: A finished corpus.
        teacher_file: The teacher's weights.
        out: Output folder.
        text: The words of the card.

    Returns:
        The result.
    """
    torch.set_num_threads(recipe.threads)
    corpus = open_corpus(corpus_dir)
    rows = corpus.rows(Split.TRAIN)
    cache = build_feature_cache(
        load_teacher(teacher_file),
        corpus.images,
        rows,
        out / "teacher_maps",
        identity={
            "teacher": sha256_of(teacher_file),
            "records": sha256_of(corpus_dir / "records.jsonl"),
        },
        bfloat16=recipe.precision is Precision.BFLOAT16,
    )
    trainer = _Trainer(recipe, corpus, cache, out)
    trainer.train()
    provenance = {
        "recipe": recipe.model_dump(mode="json"),
        "corpus": corpus.meta,
        "corpus_records_sha256": sha256_of(corpus_dir / "records.jsonl"),
        "teacher_sha256": sha256_of(teacher_file),
        "packages": {name: version(name) for name in ("torch", "timm", "piq", "pillow", "numpy")},
        "commands": list(text.commands),
    }
    card = _card(trainer.average.model, corpus, text, provenance)
    return DistillResult(directory=out, card=save_model(trainer.average.model, out, card))


class _Trainer:
    """The state of one run: everything that a checkpoint holds."""

    def __init__(
        self, recipe: DistillRecipe, corpus: Corpus, cache: FeatureCache, out: Path
    ) -> None:
        self._recipe, self._corpus, self._cache, self._out = recipe, corpus, cache, out
        self._rows = corpus.rows(Split.TRAIN)
        self._labels = torch.from_numpy(corpus.labels)
        student = _build_student(recipe)
        self._modules = nn.ModuleDict(
            {"student": student, "projections": Projections(STUDENT_CHANNELS)}
        )
        self.average = AveragedWeights(student, recipe.average_decay)
        self._optimiser = _optimiser(self._modules, recipe)
        self._settings = recipe.model_dump(mode="json")
        self._start = self._resume()
        self._log = MetricsLog(out / "training_log.jsonl", self._start)

    def _resume(self) -> int:
        state = load_checkpoint(self._out / "checkpoint.pt", recipe=self._settings)
        if state is None:
            return 0
        self._modules.load_state_dict(state["modules"])
        self.average.model.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def _save(self, step: int) -> None:
        state = {
            "recipe": self._settings,
            "step": step,
            "modules": self._modules.state_dict(),
            "average": self.average.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        save_checkpoint(self._out / "checkpoint.pt", state)

    def train(self) -> None:
        """Run all steps that are left."""
        phases = self._recipe.phases
        total = sum(phase.steps * phase.batch for phase in phases)
        images = sum(step.phase.batch for step in _steps(self._recipe, self._start))
        self._modules.train()
        with training_progress("student", done=total - images, total=total) as bar:
            for step in _steps(self._recipe, self._start):
                losses = self._step(step)
                bar.advance(step.phase.batch, note=f"loss {losses['label'].item():.4f}")
                done = step.number + 1
                if done % self._recipe.checkpoint_every == 0 or done == self._recipe.steps:
                    self._measure(done, losses)
                    self._save(done)

    def _step(self, step: _Step) -> dict[str, Tensor]:
        recipe, phase = self._recipe, step.phase
        factor = rate_factor(step.number, steps=recipe.steps, warmup=recipe.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate * factor
        batch = draw_batch(
            self._corpus.images,
            self._rows,
            first=step.first,
            count=phase.batch,
            crop=phase.crop,
            grid=GRID,
            seed=recipe.seed,
        )
        labels = self._labels[torch.from_numpy(batch.rows)]
        losses = _losses(self._modules, batch, labels, self._cache, recipe)
        guidance = (
            recipe.teacher_weight * losses["teacher"] + recipe.feature_weight * losses["feature"]
        )
        loss = recipe.label_weight * losses["label"] + _guidance(recipe, step.number) * guidance
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._modules.parameters(), recipe.clip_norm)
        self._optimiser.step()
        self.average.update(self._modules["student"], step.number)
        return losses

    def _measure(self, step: int, losses: dict[str, Tensor]) -> None:
        measured = evaluate(self.average.model, self._corpus, Split.HELD_BACK, limit=240)
        self._log.write(step, **losses, srcc=measured["srcc"], plcc=measured["plcc"])


def _card(
    model: nn.Module, corpus: Corpus, text: CardText, provenance: dict[str, Any]
) -> ModelCard:
    """Describe the student: what it is, what it was trained on, how well it does where."""
    data = {Split.HELD_BACK: text.held_back, Split.HELD_OUT_TYPES: text.held_out_types}
    metrics = [
        {**evaluate(model, corpus, split), "data": what, "label": corpus.meta["label"]}
        for split, what in data.items()
    ]
    return ModelCard(
        model=STUDENT,
        name=text.name,
        version=text.version,
        description=text.description,
        size=int(corpus.meta["size"]),
        training_data=text.training_data,
        licence=text.licence,
        metrics=metrics,
        provenance=provenance,
    )


def _command(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.")],
    corpus: Annotated[Path, typer.Option(help="Folder of a finished corpus.")],
    teacher: Annotated[Path, typer.Option(help="teacher.safetensors of the train stage.")],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    card: Annotated[Path | None, typer.Option(help="YAML with the words of the card.")] = None,
) -> None:
    """Train the student from random weights."""
    logging.basicConfig(level=logging.INFO)
    text = load_recipe(card, CardText) if card else UNNAMED
    result = run(load_recipe(recipe, DistillRecipe), corpus, teacher, out, text=text)
    logger.info("student: %s", result.card.metrics)


if __name__ == "__main__":
    typer.run(_command)
