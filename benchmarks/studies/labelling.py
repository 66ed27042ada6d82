"""How much faster is batched labelling than scoring one photograph a forward pass?

``edgefiqa study labelling PHOTOS --out RECORD`` scores the same photographs with the same model in
turn (single, batched float32, batched bfloat16, onnxruntime, single, …): *single* as published
pseudo-labelling code does it (Pillow, torchvision transforms, NCHW, one image a forward pass, torch
threads on every core), the others by ``edgefiqa label``. Models and processes are started before
the clock and ended after it: what counts is the rate at which a long run goes on. The scores are
compared as well.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.benchmarks.studies.records import LabellingRecord, LabellingWay
from edgefiqa.errors import UsageError
from edgefiqa.measuring.machine import package_versions, processor_name
from edgefiqa.metrics import srcc
from edgefiqa.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from edgefiqa.train import (
    LabelSettings,
    ScoringPrecision,
    Teacher,
    TeacherRuntime,
    default_workers,
    label_images,
    load_teacher,
    scores_of,
    scoring_size,
)

__all__ = ["measure_labelling"]

_CHUNK = 32
_BASE = "single"
_WAYS = {
    "batched float32": (ScoringPrecision.FLOAT32, TeacherRuntime.TORCH),
    "batched bfloat16": (ScoringPrecision.BFLOAT16, TeacherRuntime.TORCH),
    "onnxruntime": (ScoringPrecision.FLOAT32, TeacherRuntime.ONNXRUNTIME),
}

Scores = NDArray[np.float32]


def _score_singly(teacher: Teacher, size: int, photos: Sequence[Path]) -> tuple[float, Scores]:
    """Score as the published code does; images a second and scores."""
    from torchvision import transforms

    prepare = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    model = teacher.model.to(memory_format=torch.contiguous_format)
    scores = []
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
        start = time.perf_counter()
        for photo in photos:
            with Image.open(photo) as image:
                batch = prepare(image.convert("RGB")).unsqueeze(0)
            scores.append(float(model(batch)))
        seconds = time.perf_counter() - start
    return len(photos) / seconds, np.array(scores, np.float32)


def _score_batched(
    model: str,
    size: int,
    photos: Sequence[Path],
    precision: ScoringPrecision,
    runtime: TeacherRuntime,
    workers: int,
) -> tuple[float, Scores]:
    """Score with `edgefiqa label`; images a second once every worker works, and scores."""
    marks: list[tuple[int, float]] = []
    settings = LabelSettings(size=size, chunk=_CHUNK, precision=precision, runtime=runtime)
    with tempfile.TemporaryDirectory() as out:
        labels = label_images(
            [model],
            photos,
            Path(out),
            settings=settings,
            workers=workers,
            on_progress=lambda done, _: marks.append((done, time.perf_counter())),
        )
    # Each worker's first chunk goes with its start; a last mark, after the join, with its end.
    before, start = marks[workers - 1]
    after, end = next(mark for mark in marks if mark[0] == marks[-1][0])
    return (after - before) / (end - start), scores_of(labels.rows)


def measure_labelling(
    model: str, photos: Sequence[Path], *, size: int | None = None, rounds: int = 5
) -> LabellingRecord:
    """Measure both ways, interleaved.

    Args:
        model: What `load_teacher` takes.
        photos: Photographs that can be read.
        size: Side that is scored; the model's if None.
        rounds: How often each way is measured.

    Returns:
        The model's sha256, rates, paired ratios and differences of the scores.

    Raises:
        UsageError: There are too few photographs for every worker to get three chunks.
    """
    workers = default_workers()
    if len(photos) < 3 * workers * _CHUNK:
        allowed = f"at least {3 * workers * _CHUNK} photographs"
        raise UsageError("too few photographs to measure", value=len(photos), allowed=allowed)
    teacher = load_teacher(model)
    side = scoring_size([teacher], LabelSettings(size=size))
    torch.set_num_threads(workers)
    rates: dict[str, list[float]] = {}
    scores: dict[str, Scores] = {}
    for _ in range(rounds):
        found = {_BASE: _score_singly(teacher, side, photos)}
        for name, (precision, runtime) in _WAYS.items():
            found[name] = _score_batched(model, side, photos, precision, runtime, workers)
        for name, (rate, values) in found.items():
            rates.setdefault(name, []).append(rate)
            scores[name] = values
    return LabellingRecord(
        model=Path(model).name,
        sha256=teacher.sha256,
        size=side,
        images=len(photos),
        rounds=rounds,
        workers=workers,
        batch=LabelSettings().batch,
        processor=processor_name(),
        packages=package_versions(
            *("torch", "torchvision", "onnxruntime", "timm", "pillow", "numpy")
        ),
        ways=tuple(_summary(name, rates, scores) for name in rates),
    )


def _summary(name: str, rates: dict[str, list[float]], scores: dict[str, Scores]) -> LabellingWay:
    ratios = [rate / base for rate, base in zip(rates[name], rates[_BASE], strict=True)]
    return LabellingWay(
        way=name,
        images_per_second=round(statistics.median(rates[name]), 2),
        ratio=round(statistics.median(ratios), 3),
        paired_ratios=tuple(round(ratio, 3) for ratio in ratios),
        samples=tuple(round(rate, 2) for rate in rates[name]),
        max_abs_difference=float(np.abs(scores[name] - scores[_BASE]).max()),
        srcc=round(srcc(scores[name], scores[_BASE]), 6),
    )
