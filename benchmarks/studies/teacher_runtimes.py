"""What does an online teacher cost in torch, and what in ONNX Runtime?

``edgefiqa study teacher-runtimes MODEL --out RECORD`` asks a trained ``lite0`` for
scores and feature maps of the same batch in turn: torch float32, torch bfloat16, ONNX Runtime, and
again. Exports and first calls are made before the clock.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from edgefiqa.files import sha256_of, write_text
from edgefiqa.measuring.machine import package_versions, processor_name
from edgefiqa.memory import keep_memory
from edgefiqa.train import FrozenTeacher, TeacherRuntime, load_scorer, weights_file

__all__ = ["measure_teacher_runtimes"]

_BASE = "torch float32"


def measure_teacher_runtimes(
    model: Path, *, size: int = 288, batch: int = 24, rounds: int = 9, threads: int = 1
) -> dict[str, Any]:
    """Measure each way, interleaved.

    Args:
        model: What `load_scorer` takes; a ``lite0``.
        size: Side of the images in pixels.
        batch: Images a call.
        rounds: How often each way is measured.
        threads: Threads of either runtime.

    Returns:
        A record with the weights' sha256, milliseconds an image, and paired ratios to torch.
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
    return {
        "measurement": "teacher_runtimes",
        "schema_version": 1,
        "sha256": sha256_of(weights_file(model)),
        "settings": {"size": size, "batch": batch, "rounds": rounds, "threads": threads},
        "processor": processor_name(),
        "packages": package_versions("torch", "onnxruntime"),
        "ways": [
            {
                "way": name,
                "image_ms": round(statistics.median(own), 3),
                "paired_ratios": [
                    round(mine / base, 3) for mine, base in zip(own, samples[_BASE], strict=True)
                ],
                "samples": [round(sample, 3) for sample in own],
                "max_abs_difference": float((scores[name] - scores[_BASE]).abs().max()),
            }
            for name, own in samples.items()
        ],
    }


def main(
    model: Annotated[Path, typer.Argument(help="Folder of a lite0 teacher.")],
    size: Annotated[int, typer.Option(min=32, help="Side of the images.")] = 288,
    batch: Annotated[int, typer.Option(min=1, help="Images a call.")] = 24,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the JSON record here.")] = None,
) -> None:
    """Compare the ways: a table on stderr, the JSON record on stdout or in a file."""
    record = measure_teacher_runtimes(model, size=size, batch=batch, rounds=rounds, threads=threads)
    table = Table("way", "ms an image", "time / torch (min to max)", "largest difference")
    for way in record["ways"]:
        ratios = way["paired_ratios"]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(
            way["way"], f"{way['image_ms']:.1f}", spread, f"{way['max_abs_difference']:.1e}"
        )
    Console(stderr=True).print(table)
    text = json.dumps(record, indent=2) + "\n"
    if out:
        write_text(out, text)
    else:
        typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
