"""What a run shows and leaves: progress bar, JSON Lines log, TensorBoard scalars, curves."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edgefiqa.files import staged_path
from edgefiqa.train.checkpoints import disk_faults

__all__ = ["LOG_NAME", "ImagesBar", "RunLog", "draw_curves", "read_log", "training_progress"]

LOG_NAME = "training_log.jsonl"
CURVES_NAME = "curves.png"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a log; a last line that a killed run left half-written is not one.

    Args:
        path: A file of `RunLog`.

    Returns:
        Its lines in order.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class RunLog:
    """Scalars of a run, as JSON Lines and for TensorBoard.

    Lines past the step at which a run goes on are dropped: the run writes them again.

    Args:
        out: The run's folder.
        step: The step at which it starts or goes on.
        enabled: Write at all; only the main process does.
    """

    def __init__(self, out: Path, step: int, *, enabled: bool = True) -> None:
        self._path, self._enabled = out / LOG_NAME, enabled
        if not enabled:
            return
        kept = [line for line in read_log(self._path) if line["step"] <= step]
        with disk_faults(self._path), staged_path(self._path) as stage:
            stage.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._board = _board(out / "tensorboard", step)

    def write(self, step: int, **values: float) -> None:
        """Append one line.

        Args:
            step: Steps done.
            **values: What was measured.
        """
        if not self._enabled:
            return
        line = {"step": step, **{name: round(value, 8) for name, value in values.items()}}
        with disk_faults(self._path):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the files and draw the curves."""
        if self._enabled:
            self._board.close()
            draw_curves(self._path, self._path.with_name(CURVES_NAME))


def _board(folder: Path, step: int) -> Any:
    if "tensorflow" not in sys.modules:
        # TensorBoard's switch: its writer needs nothing of TensorFlow, whose import is slow.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def draw_curves(log: Path, out: Path) -> None:
    """Draw loss, SRCC and PLCC against the images seen.

    Args:
        log: A file of `RunLog`.
        out: The picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_log(log)
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, metrics = figure.subplots(1, 2)
    for axes, names, title in (
        (losses, ("loss",), "training loss"),
        (metrics, ("srcc", "plcc"), "held-back images"),
    ):
        for name in names:
            points = [(line["images"], line[name]) for line in lines if name in line]
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1)
        axes.set(xlabel="images seen", title=title)
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=6)  # as many as six-digit numbers have room for
    metrics.legend()
    if any(line.get("loss", 0) > 0 for line in lines):
        losses.set_yscale("log")
    with disk_faults(out), staged_path(out) as stage:
        figure.savefig(stage, dpi=120)


@contextmanager
def training_progress(
    label: str, *, done: int, total: int, enabled: bool = True
) -> Iterator["ImagesBar"]:
    """Show a progress bar on standard error, with images a second.

    Args:
        label: What is running.
        done: Images done in earlier runs.
        total: Images in all.
        enabled: Show it at all.

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
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not enabled) as progress:
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

    def set(self, done: int, total: int) -> None:
        """Say how far a job is whose length is not known before it runs.

        Args:
            done: Images done.
            total: Images in all.
        """
        self._progress.update(self._task, completed=done, total=total)
