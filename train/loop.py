"""Pieces that every training loop here shares: schedule, averaged weights, checkpoints, log."""

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from edgefiqa.errors import CheckpointError
from edgefiqa.files import staged_path

__all__ = [
    "AveragedWeights",
    "ImagesBar",
    "MetricsLog",
    "load_checkpoint",
    "rate_factor",
    "save_checkpoint",
    "training_progress",
]


def rate_factor(step: int, *, steps: int, warmup: int, floor: float = 0.01) -> float:
    """Return the learning rate's factor: linear warm-up, then half a cosine.

    Args:
        step: 0-based.
        steps: Steps in all.
        warmup: Steps of warm-up.
        floor: What is left at the end.

    Returns:
        Factor in 0..1.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


class AveragedWeights:
    """An exponential moving average of a model's weights.

    Args:
        model: The model that is trained; its copy starts equal.
        decay: Share of the old average kept each step; less in the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after one step.

        Args:
            model: The trained model.
            step: 0-based; a young average forgets faster.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        new = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(new[name], 1 - decay)
            else:
                average.copy_(new[name])


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name and rename it: whole or absent.

    Args:
        path: Where it goes.
        state: Tensors, numbers, strings and containers of them.
    """
    with staged_path(path) as stage:
        torch.save(state, stage)


def load_checkpoint(path: Path, *, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Read a checkpoint, if there is one.

    Args:
        path: Where it may lie.
        recipe: The recipe of the run that wants to go on.

    Returns:
        The state, or None.

    Raises:
        CheckpointError: It is damaged, or of another recipe.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError) as fault:
        raise CheckpointError(f"damaged checkpoint ({fault})", value=path) from fault
    if state.get("recipe") != recipe:
        next_step = "remove the folder, or name another one"
        raise CheckpointError("checkpoint of another recipe", value=path, next_step=next_step)
    return state


class MetricsLog:
    """A JSON Lines file of metrics; lines past the step of a resumed run are dropped.

    Args:
        path: The file.
        step: The step at which the run goes on.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        with staged_path(path) as stage:
            stage.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def write(self, step: int, **values: float | str | Tensor) -> None:
        """Append one line.

        Args:
            step: Steps done.
            **values: What was measured.
        """
        plain: dict[str, float | str] = {}
        for name, value in values.items():
            number = value.item() if isinstance(value, Tensor) else value
            plain[name] = number if isinstance(number, str) else round(number, 6)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **plain}) + "\n")


@contextmanager
def training_progress(label: str, *, done: int, total: int) -> Iterator["ImagesBar"]:
    """Show a progress bar on standard error, with images a second.

    Args:
        label: What is running.
        done: Images done in earlier runs.
        total: Images in all.

    Yields:
        The bar, to be advanced by images.
    """
    columns = (
        TextColumn("[cyan]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, completed=done, rate="", note="")
        yield ImagesBar(progress, int(task))


class ImagesBar:
    """The bar of `training_progress`."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, progress.tasks[task].id

    def advance(self, images: int, note: str = "") -> None:
        """Move on.

        Args:
            images: Images done since the last call.
            note: Short text to show behind the bar.
        """
        self._progress.advance(self._task, images)
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed:.1f} images/s" if speed else ""
        self._progress.update(self._task, rate=rate, note=note)
