"""What does an online teacher cost in torch, and what in ONNX Runtime?

``edgefiqa study teacher-runtimes MODEL --out RECORD`` asks a trained ``lite0`` for
scores and feature maps of the same batch in turn: torch float32, torch bfloat16, ONNX Runtime, and
again. Exports and first calls are made before the clock.
"""

import statistics
import time
from pathlib import Path

import torch

from edgefiqa.benchmarks.studies.records import TeacherRuntimesRecord, TeacherSettings, TeacherWay
from edgefiqa.files import sha256_of
from edgefiqa.measuring.machine import package_versions, processor_name
from edgefiqa.memory import keep_memory
from edgefiqa.train import FrozenTeacher, TeacherRuntime, load_scorer, weights_file

__all__ = ["measure_teacher_runtimes"]

_BASE = "torch float32"


def measure_teacher_runtimes(
    model: Path, *, size: int = 288, batch: int = 24, rounds: int = 9, threads: int = 1
) -> TeacherRuntimesRecord:
    """Measure each way, interleaved.

    Args:
        model: What `load_scorer` takes; a ``lite0``.
        size: Side of the images in pixels.
        batch: Images a call.
        rounds: How often each way is measured.
        threads: Threads of either runtime.

    Returns:
        The weights' sha256, milliseconds an image, and paired ratios to torch.
    """
    keep_memory()
    torch.set_num_threads(threads)
    teacher = load_scorer(model)
    ways = {
        _BASE: FrozenTeacher(teacher, maps=True),
        "torch bfloat16": FrozenTeacher(teacher, maps=True, bfloat16=True),
        "onnxruntime float32": FrozenTeacher(
            teacher, maps=True, runtime=TeacherRuntime.ONNXRUNTIME
        ),
    }
    torch.manual_seed(0)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    scores = {name: ask(images)[0].clone() for name, ask in ways.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, ask in ways.items():
            start = time.perf_counter()
            ask(images)
            samples[name].append((time.perf_counter() - start) * 1000 / batch)
    return TeacherRuntimesRecord(
        sha256=sha256_of(weights_file(model)),
        settings=TeacherSettings(size=size, batch=batch, rounds=rounds, threads=threads),
        processor=processor_name(),
        packages=package_versions("torch", "onnxruntime"),
        ways=tuple(
            TeacherWay(
                way=name,
                image_ms=round(statistics.median(samples_ms), 3),
                paired_ratios=tuple(
                    round(sample / base, 3)
                    for sample, base in zip(samples_ms, samples[_BASE], strict=True)
                ),
                samples=tuple(round(sample, 3) for sample in samples_ms),
                max_abs_difference=float((scores[name] - scores[_BASE]).abs().max()),
            )
            for name, samples_ms in samples.items()
        ),
    )
