"""How many images a second does training get through, against a plain torch loop?

::

    python -m edgefiqa.benchmarks.training_speed PHOTOS --out record.json

Both train the same network on the same photographs with the same loss, optimiser, batch and crop,
with every core of the machine, in turn, each time in a process of its own:

- ours: `edgefiqa.train.fit` on an image set (decoded and resized once, mapped into memory,
  channels_last, freed memory kept, the next batches prepared in a thread, bfloat16), the same in
  float32, and both as torchrun starts it, each batch shared by one process a core;
- plain: PIL opens each JPEG, torchvision resizes, crops, mirrors and normalises it, a DataLoader
  (without and with worker processes) makes NCHW batches, float32.

A step is timed from one forward pass to the next, so waiting for data counts.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edgefiqa.benchmarks.machine import package_versions, processor_name
from edgefiqa.data.batches import IMAGENET_MEAN, IMAGENET_STD
from edgefiqa.data.image_set import ImageSet, open_image_set
from edgefiqa.data.pack import pack_photos
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of, write_text
from edgefiqa.isolation import call_isolated
from edgefiqa.photo_files import find_photos
from edgefiqa.train import TrainingSet, TrainRecipe, build_loss, build_scorer, fit

__all__ = ["Settings", "measure_training_speed"]

_RATE, _DECAY, _LOSS = 1e-4, 1e-6, "mse_plcc"
_PLAIN_WORKERS = (0, 2)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What both loops do.

    Attributes:
        model: A name of ``edgefiqa models``; random weights.
        size: Short side of the resized photographs.
        crop: Side of the random crops.
        batch: Images a step.
        steps: Timed steps a round.
        warmup: Steps before them that are not timed.
        rounds: How often each loop is measured.
        threads: Cores: torch threads, or processes of one thread each.
        photos: How many photographs.
    """

    model: str = "efficient-fiqa-student"
    size: int = 288
    crop: int = 160
    batch: int = 32
    steps: int = 8
    warmup: int = 2
    rounds: int = 3
    threads: int = 2
    photos: int = 256


class _Clock:
    """Notes when the training forward passes of a model start."""

    def __init__(self, model: nn.Module) -> None:
        self.times: list[float] = []
        model.register_forward_pre_hook(self._note)

    def _note(self, model: nn.Module, _inputs: tuple[Any, ...]) -> None:
        if model.training:
            self.times.append(time.perf_counter())

    def seconds(self, warmup: int) -> list[float]:
        """Return the length of each step after the warm-up."""
        return [b - a for a, b in pairwise(self.times[warmup:])]


def _labels(count: int) -> NDArray[np.float32]:
    # What the labels are does not matter here; they must not be equal.
    return np.random.default_rng(0).random(count, dtype=np.float32)


def _pack(paths: list[Path], out: Path, size: int) -> tuple[ImageSet, float]:
    """Pack only these photographs; return how long that took as well."""
    chosen = out / "photographs"
    chosen.mkdir()
    for number, path in enumerate(paths):
        (chosen / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
    start = time.perf_counter()
    images = pack_photos(chosen, None, out / "set", size)
    return images, time.perf_counter() - start


def _time_ours(
    path: Path, settings: Settings, precision: str, threads: int, out: Path
) -> list[float]:
    images = open_image_set(path)
    labels = _labels(len(images))
    recipe = TrainRecipe.model_validate(
        {
            "model": settings.model,
            "loss": _LOSS,
            "phases": [
                {
                    "steps": settings.warmup + settings.steps + 1,
                    "batch": settings.batch,
                    "crop": settings.crop,
                }
            ],
            "rate": _RATE,
            "weight_decay": _DECAY,
            "schedule": {"kind": "cosine"},
            "precision": precision,
            "evaluate_every": settings.warmup + settings.steps + 1,
            "evaluate_limit": 2,
            "log_every": settings.warmup + settings.steps + 1,
            "threads": threads,
        }
    )
    model = build_scorer(settings.model, pretrained=False, seed=0)
    clock = _Clock(model)
    rows = images.rows()
    training = TrainingSet("photographs", images, rows, labels)
    held_back = TrainingSet("held back", images, rows[:2], labels[:2])
    fit(model, [training], held_back, recipe, out)
    return clock.seconds(settings.warmup)


def _time_one_process(path: Path, settings: Settings, precision: str) -> list[float]:
    with tempfile.TemporaryDirectory() as out:
        return _time_ours(path, settings, precision, settings.threads, Path(out))


def _time_processes(path: Path, settings: Settings, precision: str) -> list[float]:
    """Train as under ``torchrun --standalone``; the first process' clock counts."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=settings.threads,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    with tempfile.TemporaryDirectory() as out:
        arguments = (path, settings, precision, 1, Path(out))
        by_rank: dict[int, list[float]] = elastic_launch(config, _time_ours)(*arguments)
    return by_rank[0]


class _Photographs(Dataset[tuple[Tensor, Tensor]]):
    """A plain torch data set: what a tutorial would write."""

    def __init__(self, paths: list[Path], size: int, crop: int) -> None:
        from torchvision import transforms

        self._paths, self._labels = paths, _labels(len(paths))
        self._transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.RandomCrop(crop),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self._paths[index]) as photo:
            image: Tensor = self._transform(photo.convert("RGB"))
        return image, torch.tensor(self._labels[index])


def _time_plain(paths: list[Path], settings: Settings, workers: int) -> list[float]:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    loader = DataLoader(
        _Photographs(paths, settings.size, settings.crop),
        batch_size=settings.batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = build_scorer(settings.model, pretrained=False, seed=0).train()
    clock = _Clock(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    loss_of = build_loss(_LOSS, {})
    left = settings.warmup + settings.steps + 1
    while left > 0:
        for images, labels in loader:
            loss = loss_of(model(images), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            left -= 1
            if left == 0:
                break
    return clock.seconds(settings.warmup)


def measure_training_speed(folder: Path, settings: Settings) -> dict[str, Any]:
    """Measure both loops in turn.

    Args:
        folder: Photographs.
        settings: What both do.

    Returns:
        The record: medians, and the ratio of each round to the faster plain loop of that round.

    Raises:
        UsageError: There are fewer photographs than a batch.
    """
    paths = find_photos([folder])[: settings.photos]
    if len(paths) < settings.batch:
        found = f"{len(paths)} photographs, batch {settings.batch}"
        raise UsageError("too few photographs", value=found, allowed="a batch or more")
    with tempfile.TemporaryDirectory() as scratch:
        images, packing_seconds = _pack(paths, Path(scratch), settings.size)
        arms = _arms(paths, images, settings)
        rounds = [{name: arm() for name, arm in arms.items()} for _ in range(settings.rounds)]
        identity = images.identity
    speeds = [
        {name: settings.batch / statistics.median(own) for name, own in turn.items()}
        for turn in rounds
    ]
    return {
        "measurement": "training_speed",
        "schema_version": 1,
        "settings": {**asdict(settings), "photos": len(paths)},
        "photographs_sha256": sha256_of(folder),
        "set_index_sha256": identity,
        "packing_seconds": round(packing_seconds, 2),
        "processor": processor_name(),
        "packages": package_versions("torch", "torchvision", "timm", "pillow", "numpy"),
        "images_per_second": {
            name: round(statistics.median(turn[name] for turn in speeds), 2) for name in arms
        },
        **_ratios(speeds),
        "step_seconds": [
            {name: [round(value, 4) for value in own] for name, own in turn.items()}
            for turn in rounds
        ],
    }


def _arms(
    paths: list[Path], images: ImageSet, settings: Settings
) -> dict[str, Callable[[], list[float]]]:
    # Own processes: how one loop treats memory must not help the other.
    arms: dict[str, Callable[[], list[float]]] = {
        f"ours, {way}": partial(call_isolated, None, function, images.path, settings, precision)
        for way, function, precision in (
            ("bfloat16", _time_one_process, "bf16"),
            ("float32", _time_one_process, "no"),
            (f"bfloat16, {settings.threads} processes", _time_processes, "bf16"),
            (f"float32, {settings.threads} processes", _time_processes, "no"),
        )
    }
    for workers in _PLAIN_WORKERS:
        arms[f"plain, {workers} workers"] = partial(
            call_isolated, None, _time_plain, paths, settings, workers
        )
    return arms


def _ratios(speeds: list[dict[str, float]]) -> dict[str, Any]:
    """Compare with the plain loop at its best, round by round."""
    plain = [name for name in speeds[0] if name.startswith("plain")]
    best = max(plain, key=lambda name: statistics.median(turn[name] for turn in speeds))
    ratios = {
        name: [turn[name] / max(turn[other] for other in plain) for turn in speeds]
        for name in speeds[0]
        if name not in plain
    }
    return {
        "best_plain": best,
        "ratio": {name: round(statistics.median(own), 3) for name, own in ratios.items()},
        "paired_ratios": {name: [round(r, 3) for r in own] for name, own in ratios.items()},
    }


def main(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="The JSON record to write.")],
    model: Annotated[str, typer.Option(help="A name of edgefiqa models.")] = Settings.model,
    crop: Annotated[int, typer.Option(min=32)] = Settings.crop,
    batch: Annotated[int, typer.Option(min=2)] = Settings.batch,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps a round.")] = Settings.steps,
    rounds: Annotated[int, typer.Option(min=1)] = Settings.rounds,
    threads: Annotated[int, typer.Option(min=1)] = Settings.threads,
    count: Annotated[int, typer.Option(min=2, help="Photographs.")] = Settings.photos,
) -> None:
    """Measure training against a plain torch loop."""
    settings = Settings(
        model=model,
        crop=crop,
        batch=batch,
        steps=steps,
        rounds=rounds,
        threads=threads,
        photos=count,
    )
    record = measure_training_speed(photos, settings)
    write_text(out, json.dumps(record, indent=2) + "\n")
    shown = {name: record[name] for name in ("images_per_second", "best_plain", "ratio")}
    typer.echo(json.dumps(shown, indent=2))


if __name__ == "__main__":
    typer.run(main)
