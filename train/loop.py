"""The training loop: every model here, from the teacher to the student, is trained by `fit`.

One step draws a batch from each set, scores all of them at once, and adds up the sets' mean losses
(Efficient-FIQA's equations 3 and 4)::

    loss = Σ_sets weight · loss(scores of the set, its targets)  [+ guidance weight · its losses]

Batches, learning rates and phases are pure functions of the step, so a run that was killed and goes
on from its checkpoint ends with the same weights. Under ``accelerate launch`` or ``torchrun`` each
process computes its share of the same batches, and the loss is that of the whole batch: what is
correlated is all scores, not one process' scores.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn

from edgefiqa.errors import CheckpointError, EdgeFiqaError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.memory import keep_memory
from edgefiqa.train.averaging import AveragedWeights
from edgefiqa.train.checkpoints import (
    CHECKPOINT_NAME,
    load_checkpoint,
    random_state,
    remove_stages,
    restore_random_state,
    save_checkpoint,
    save_weights,
)
from edgefiqa.train.cpu_layers import fast_layers
from edgefiqa.train.evaluation import evaluate
from edgefiqa.train.guidance import Guidance
from edgefiqa.train.losses import build_loss
from edgefiqa.train.optimisers import build_optimiser, rate_factor, set_rates
from edgefiqa.train.parallel import (
    gather_objects,
    gather_scores,
    same_tensors,
    synchronise_batch_norm,
)
from edgefiqa.train.precision import float32_head, has_bfloat16
from edgefiqa.train.sets import DrawnBatch, SamplingPlan, TrainingSet, check_set, draw_position
from edgefiqa.train.settings import MixedPrecision, Select, TrainRecipe
from edgefiqa.train.tracking import RunLog, training_progress

__all__ = ["BEST_NAME", "FitResult", "fit"]

logger = logging.getLogger(__name__)

BEST_NAME = "best.safetensors"
Prepared = TypeVar("Prepared")


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a training run produced.

    Attributes:
        weights: The best weights.
        sha256: Their hash.
        metrics: Step, n, SRCC and PLCC of the best weights on the held-back images.
        steps: Optimiser steps of the whole run.
        images_per_second: Images per second of the training steps, without measurements.
    """

    weights: Path
    sha256: str
    metrics: dict[str, Any]
    steps: int
    images_per_second: float


def fit(
    model: nn.Module,
    sets: Sequence[TrainingSet],
    held_back: TrainingSet,
    recipe: TrainRecipe,
    out: Path,
    *,
    guidance: Guidance | None = None,
) -> FitResult:
    """Train a model, or go on training it; afterwards it holds the best weights, in eval mode.

    Args:
        model: A scorer, normalised float32 NCHW images to scores ``[N]``.
        sets: What to train on, the labelled set first.
        held_back: What the best weights are chosen on.
        recipe: The settings.
        out: Receives ``best.safetensors``, ``checkpoint.pt``, ``training_log.jsonl``,
            ``tensorboard/`` and ``curves.png``. With several hosts it lies on a shared disk.
        guidance: Losses of an online teacher.

    Returns:
        The result.

    Raises:
        DataError: A set cannot be used, or the disk is full.
        CheckpointError: `out` holds a run of another recipe or of other sets.
        EdgeFiqaError: The loss is no longer a number.
    """
    for chosen in (*sets, held_back):
        check_set(chosen)
    keep_memory()
    # Layers are changed for the time of the run; a run that fails leaves the caller's model whole.
    with ExitStack() as changes:
        run = _Run(model, sets, held_back, recipe, out, guidance, changes)
        run.train()
        return run.finish()


class _Network(nn.Module):
    """The scorer and what is trained along with it, as the one module of a distributed step."""

    def __init__(self, scorer: nn.Module, guide: nn.Module | None) -> None:
        super().__init__()
        self.scorer, self.guide = scorer, guide

    def forward(self, images: Tensor, guided: bool) -> tuple[Tensor, dict[str, Tensor]]:
        if self.guide is None or not guided:
            return self.scorer(images).float(), {}
        scores, losses = self.guide(self.scorer, images)
        return scores.float(), losses


def _accelerator(precision: MixedPrecision, guidance: Guidance | None) -> Accelerator:
    on_cpu = not torch.cuda.is_available()
    if precision is MixedPrecision.FLOAT16 and on_cpu:
        raise UsageError("fp16 needs a CUDA device", allowed="no, bf16", value="precision: fp16")
    if precision is MixedPrecision.BFLOAT16 and on_cpu and not has_bfloat16():
        logger.warning(
            "precision: bf16: this processor has no instructions for it; precision: no is quicker"
        )
    # A process may train several models, each in another precision.
    AcceleratorState._reset_state()
    # Where a guidance's weight has fallen to 0, its projections are left without gradients.
    fades = (
        guidance is not None and guidance.fades and any(True for _ in guidance.module.parameters())
    )
    unused = DistributedDataParallelKwargs(find_unused_parameters=fades)
    return Accelerator(mixed_precision=precision.value, cpu=on_cpu, kwargs_handlers=[unused])


def _prepared(draw: Callable[[int], Prepared], steps: Iterable[int]) -> Iterator[Prepared]:
    """Yield what `draw` makes of each step, two steps ahead in a background thread."""
    waiting: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for step in steps:
            waiting.append(pool.submit(draw, step))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Run:
    """The state of one run: everything that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        sets: Sequence[TrainingSet],
        held_back: TrainingSet,
        recipe: TrainRecipe,
        out: Path,
        guidance: Guidance | None,
        changes: ExitStack,
    ) -> None:
        self._model, self._sets, self._held_back = model, sets, held_back
        self._recipe, self._out, self._guidance = recipe, out, guidance
        self._plan, self._loss = (
            SamplingPlan(recipe, sets),
            build_loss(recipe.loss, recipe.loss_options),
        )
        self._accelerator = _accelerator(recipe.precision, guidance)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self._device = self._accelerator.device
        self._best: dict[str, Any] = {}
        self._losses: list[float] = []
        self._seconds = 0.0
        self._build(changes)
        self._start = self._resume()

    def _build(self, changes: ExitStack) -> None:
        recipe, model = self._recipe, self._model
        if recipe.sync_batch_norm:
            model = synchronise_batch_norm(model, self._device)
        if recipe.precision is not MixedPrecision.FLOAT32:
            changes.enter_context(float32_head(model))
        if self._device.type == "cpu":
            changes.enter_context(fast_layers(model))
        guide = self._guidance.module if self._guidance else None
        network = _Network(model, guide).to(memory_format=torch.channels_last).to(self._device)
        self._model = network.scorer
        self._average = (
            None
            if recipe.average_decay is None
            else AveragedWeights(self._model, recipe.average_decay)
        )
        optimiser = build_optimiser(self._model, guide, recipe)
        # Each process draws other numbers: dropout must differ between them.
        torch.manual_seed(recipe.seed + self._accelerator.process_index)
        self._bare = network
        self._network, self._optimiser = self._accelerator.prepare(network, optimiser)

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "recipe": self._recipe.model_dump(mode="json"),
            "sets": [chosen.identity for chosen in (*self._sets, self._held_back)],
            "guidance": self._guidance.identity if self._guidance else None,
        }

    def _resume(self) -> int:
        state = load_checkpoint(self._out / CHECKPOINT_NAME, identity=self._identity)
        start = 0 if state is None else int(state["step"])
        if len(set(gather_objects(start))) > 1:
            raise CheckpointError(
                "not all processes see the same checkpoint",
                value=self._out,
                next_step="put the output folder on a disk that all hosts share",
            )
        if state is None:
            return 0
        self._bare.load_state_dict(state["network"])
        if self._average is not None:
            self._average.model.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        random_states = state["random"][self._accelerator.process_index % len(state["random"])]
        restore_random_state(random_states, self._device)
        self._best, self._losses = state["best"], state["losses"]
        self._seconds = state["seconds"]
        return start

    def _save(self, step: int) -> None:
        random = gather_objects(random_state(self._device))
        if not self._accelerator.is_main_process:
            return
        scaler = self._accelerator.scaler
        state = {
            "identity": self._identity,
            "step": step,
            "network": self._bare.state_dict(),
            "average": None if self._average is None else self._average.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "random": random,
            "best": self._best,
            "losses": self._losses,
            "seconds": self._seconds,
        }
        save_checkpoint(self._out / CHECKPOINT_NAME, state)

    def train(self) -> None:
        """Run all steps that are left."""
        plan, main = self._plan, self._accelerator.is_main_process
        if main:
            remove_stages(self._out)
        log = RunLog(self._out, self._start, enabled=main)
        done = plan.images_before(self._start)
        steps = range(self._start, plan.steps)
        batches = _prepared(self._draw, steps)
        name = self._recipe.model
        with training_progress(name, done=done, total=plan.images, enabled=main) as bar:
            begun = time.perf_counter()
            for step, batch in zip(steps, batches, strict=True):
                loss = self._step(step, batch)
                # With the wait for the batch, without measurements and checkpoints.
                self._seconds += time.perf_counter() - begun
                images = plan.images_before(step + 1) - plan.images_before(step)
                bar.advance(images, note=f"loss {loss:.4f}")
                self._report(step, log)
                begun = time.perf_counter()
        log.close()

    def _draw(self, step: int) -> DrawnBatch:
        return draw_position(self._sets, self._plan.at(step), self._recipe.seed)

    def _step(self, step: int, batch: DrawnBatch) -> float:
        """Take one optimiser step and return its loss."""
        recipe = self._recipe
        epoch = self._plan.at(step).epoch
        set_rates(
            self._optimiser,
            rate_factor(recipe.schedule, step=step, steps=self._plan.steps, epoch=epoch),
        )
        self._network.train()
        loss = self._compute_loss(step, batch)
        # The sets' losses are those of the whole batch already; a guidance's are this process'.
        value = float(self._accelerator.reduce(loss.detach(), reduction="mean"))
        if not math.isfinite(value):
            raise EdgeFiqaError(
                f"training diverged: the loss of step {step} is no number",
                value=value,
                next_step="lower the rate, set clip_norm, or use precision: no; "
                "the last checkpoint is intact",
            )
        self._optimiser.zero_grad()
        self._accelerator.backward(loss)
        if recipe.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._network.parameters(), recipe.clip_norm)
        self._optimiser.step()
        if self._average is not None:
            self._average.update(self._model, step)
        self._losses.append(value)
        return value

    def _compute_loss(self, step: int, batch: DrawnBatch) -> Tensor:
        guide = self._guidance
        weight = guide.weight(step / self._plan.steps) if guide else 0.0
        images = batch.images.to(self._device, non_blocking=True)
        scores, guiding = self._network(images, bool(weight))
        total = torch.zeros((), device=self._device)
        found = gather_scores(scores, batch.sizes)
        targets = gather_scores(batch.targets.to(self._device), batch.sizes)
        for chosen, predicted, target in zip(self._sets, found, targets, strict=True):
            total = total + chosen.weight * self._loss(predicted, target)
        if weight:
            total = total + weight * torch.stack(list(guiding.values())).sum()
        return total

    def _report(self, step: int, log: RunLog) -> None:
        """Log, measure and save after a step, where it is time for that."""
        recipe, done = self._recipe, step + 1
        last, images = done == self._plan.steps, self._plan.images_before(done)
        if done % recipe.log_every == 0 or last:
            loss = sum(self._losses) / len(self._losses)
            rate = self._optimiser.param_groups[0]["lr"]
            log.write(done, images=images, loss=loss, rate=rate)
            self._losses.clear()
        every = recipe.evaluate_every
        measuring = done % every == 0 if every else self._plan.ends_epoch(step)
        if measuring or last:
            found = self._measure(done)
            log.write(done, images=images, **{k: v for k, v in found.items() if math.isfinite(v)})
        every = recipe.checkpoint_every
        if last or (done % every == 0 if every else measuring):
            self._save(done)

    def _measure(self, step: int) -> dict[str, float]:
        """Measure on the held-back images, and keep the weights if they are the best so far."""
        model = self._model if self._average is None else self._average.model
        same_tensors(model.buffers())
        if not self._accelerator.is_main_process:
            return {}
        chosen, recipe = self._held_back, self._recipe
        found = evaluate(
            model,
            chosen.images,
            chosen.rows,
            targets=chosen.targets,
            limit=recipe.evaluate_limit,
            views=recipe.views,
        )
        values = [found["srcc"]]
        if recipe.select is Select.SRCC_PLCC:
            values.append(found["plcc"])
        # A scorer that says the same of every image has no correlation: worst, but still weights.
        value = sum(values) / len(values) if all(map(math.isfinite, values)) else -1.0
        if not self._best or value > self._best["value"]:
            save_weights(self._out / BEST_NAME, model)
            self._best = {"value": value, "step": step, **found}
        return {"srcc": found["srcc"], "plcc": found["plcc"]}

    def finish(self) -> FitResult:
        """Load the best weights into the model and describe them."""
        self._accelerator.wait_for_everyone()
        path = self._out / BEST_NAME
        if not path.exists():
            raise CheckpointError("the best weights of a finished run are gone", value=path)
        self._model.load_state_dict(load_file(path))
        same_tensors(self._model.state_dict().values())
        self._model.eval()
        best = gather_objects(self._best)[0]
        return FitResult(
            weights=path,
            sha256=sha256_of(path),
            metrics={key: best[key] for key in ("step", "n", "srcc", "plcc")},
            steps=self._plan.steps,
            images_per_second=self._plan.images / max(self._seconds, 1e-9),
        )
