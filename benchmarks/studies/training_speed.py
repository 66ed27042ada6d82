"""How many images a second does training get through, against a plain torch loop?

::

    edgefiqa study training-speed PHOTOS --model mspt --model lite0 --out record.json

Both train the same network on the same photographs with the same loss, optimiser, batch and crop,
with every core of the machine, each in a separate process; they take turns of a few steps:

- ours: `edgefiqa.train.fit` on an image set (decoded and resized once, mapped into memory,
  channels_last, freed memory kept, the next batches prepared in a thread, on CPUs quicker layers),
  in float32 and bfloat16, by one process and as torchrun starts it, one process a core;
- plain: PIL opens each JPEG, torchvision resizes, crops, mirrors and normalises it, a DataLoader
  (without and with worker processes) makes NCHW batches, float32.

A step is timed from one forward pass to the next, so waiting for data counts.
"""

import math
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edgefiqa.benchmarks.studies.records import RatioInterval, TrainingSettings, TrainingSpeedRecord
from edgefiqa.benchmarks.studies.taking_turns import TurnClock, take_turns
from edgefiqa.data.batches import IMAGENET_MEAN, IMAGENET_STD
from edgefiqa.data.image_set import ImageSet, open_image_set
from edgefiqa.data.pack import pack_photos
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.measuring.machine import package_versions, processor_name
from edgefiqa.measuring.paired_ratios import signed_rank_interval
from edgefiqa.photo_files import find_photos
from edgefiqa.train import TrainingSet, TrainRecipe, build_loss, build_scorer, fit, has_bfloat16

__all__ = ["measure_training_speed"]

_RATE, _DECAY, _LOSS = 1e-4, 1e-6, "mse_plcc"
_PLAIN_WORKERS = (0, 2)
_CONFIDENCE = 0.95


def _hold_up(model: nn.Module, settings: TrainingSettings, address: Path) -> None:
    """Make a model's training steps take turns with those of other loops."""
    clock = TurnClock(address, lead=settings.lead, steps=settings.steps)

    def tick(module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        if module.training:
            clock.tick()

    model.register_forward_pre_hook(tick)


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


def _train_ours(
    path: Path, settings: TrainingSettings, precision: str, threads: int, out: Path, address: Path
) -> None:
    images = open_image_set(path)
    labels = _labels(len(images))
    steps = settings.all_steps
    recipe = TrainRecipe.model_validate(
        {
            "model": settings.model,
            "loss": _LOSS,
            "phases": [{"steps": steps, "batch": settings.batch, "crop": settings.crop}],
            "rate": _RATE,
            "weight_decay": _DECAY,
            "schedule": {"kind": "cosine"},
            "precision": precision,
            "evaluate_every": steps,
            "evaluate_limit": 2,
            "log_every": steps,
            "threads": threads,
        }
    )
    model = build_scorer(settings.model, pretrained=False, seed=0)
    # Of several processes the first one's clock counts; the others wait for its gradients.
    if os.environ.get("RANK", "0") == "0":
        _hold_up(model, settings, address)
    rows = images.rows()
    training = TrainingSet("photographs", images, rows, labels)
    held_back = TrainingSet("held back", images, rows[:2], labels[:2])
    fit(model, [training], held_back, recipe, out)


def _train_one_process(
    path: Path, settings: TrainingSettings, precision: str, address: Path
) -> None:
    with tempfile.TemporaryDirectory() as out:
        _train_ours(path, settings, precision, settings.threads, Path(out), address)


def _train_processes(path: Path, settings: TrainingSettings, precision: str, address: Path) -> None:
    """Train as under ``torchrun --standalone``."""
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
        elastic_launch(config, _train_ours)(path, settings, precision, 1, Path(out), address)


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


def _train_plain(
    paths: list[Path], settings: TrainingSettings, workers: int, address: Path
) -> None:
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
    _hold_up(model, settings, address)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    loss_of = build_loss(_LOSS, {})
    left = settings.all_steps
    while left > 0:
        for images, labels in loader:
            loss = loss_of(model(images), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            left -= 1
            if left == 0:
                break


def measure_training_speed(folder: Path, settings: TrainingSettings) -> TrainingSpeedRecord:
    """Measure both loops in turn.

    Args:
        folder: Photographs.
        settings: What both do.

    Returns:
        The record: medians, and the ratio of each round to the faster plain loop.

    Raises:
        UsageError: There are fewer photographs than a batch.
    """
    paths = find_photos([folder])[: settings.photos]
    if len(paths) < settings.batch:
        found = f"{len(paths)} photographs, batch {settings.batch}"
        raise UsageError("too few photographs", value=found, allowed="a batch or more")
    with tempfile.TemporaryDirectory() as scratch:
        images, packing_seconds = _pack(paths, Path(scratch), settings.size)
        rounds = take_turns(_loops(paths, images, settings), rounds=settings.rounds)
        identity = images.identity
    speeds = [
        {name: settings.batch / statistics.median(seconds) for name, seconds in turn.items()}
        for turn in rounds
    ]
    best, paired = _paired_ratios(speeds)
    return TrainingSpeedRecord(
        settings=settings.model_copy(update={"photos": len(paths)}),
        photographs_sha256=sha256_of(folder),
        set_index_sha256=identity,
        packing_seconds=round(packing_seconds, 2),
        processor=processor_name(),
        has_bfloat16=has_bfloat16(),
        packages=package_versions("torch", "torchvision", "timm", "pillow", "numpy"),
        images_per_second={
            name: round(statistics.median(turn[name] for turn in speeds), 2) for name in speeds[0]
        },
        best_plain=best,
        ratio={name: _with_interval(ratios) for name, ratios in paired.items()},
        paired_ratios={
            name: tuple(round(ratio, 3) for ratio in ratios) for name, ratios in paired.items()
        },
        step_seconds=tuple(
            {name: tuple(round(value, 4) for value in seconds) for name, seconds in turn.items()}
            for turn in rounds
        ),
    )


def _loops(
    paths: list[Path], images: ImageSet, settings: TrainingSettings
) -> dict[str, partial[None]]:
    ways = {"float32": "no"} | ({"bfloat16": "bf16"} if settings.bfloat16 else {})
    loops: dict[str, partial[None]] = {}
    for way, precision in ways.items():
        arguments = images.path, settings, precision
        loops[f"ours, {way}"] = partial(_train_one_process, *arguments)
        several = f"ours, {way}, {settings.threads} processes"
        loops[several] = partial(_train_processes, *arguments)
    for workers in _PLAIN_WORKERS:
        loops[f"plain, {workers} workers"] = partial(_train_plain, paths, settings, workers)
    return loops


def _paired_ratios(speeds: list[dict[str, float]]) -> tuple[str, dict[str, list[float]]]:
    """Compare with the plain loop that is faster over all rounds, round by round."""
    plain = [name for name in speeds[0] if name.startswith("plain")]
    best = max(plain, key=lambda name: statistics.median(turn[name] for turn in speeds))
    return best, {
        name: [turn[name] / turn[best] for turn in speeds]
        for name in speeds[0]
        if name not in plain
    }


def _with_interval(ratios: list[float]) -> RatioInterval:
    found = signed_rank_interval(np.log(ratios), confidence=_CONFIDENCE)
    low, high = (
        None if end is None else round(math.exp(end), 3) for end in (found.low, found.high)
    )
    assert found.value is not None
    return RatioInterval(
        centre=round(math.exp(found.value), 3), low=low, high=high, confidence=_CONFIDENCE
    )
