"""Score records of made-up numbers, for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from edgefiqa.measuring.records import (
    Executed,
    ImageFacts,
    ImageScore,
    ImagesIdentity,
    ImagesRecord,
    ScoreRecord,
    Twin,
)
from edgefiqa.measuring.run_directory import Run, load_run, save_record

IDENTITY = "1" * 64


def executed(
    file: str = "a.onnx",
    *,
    precision: str = "fp32",
    sha256: str = "a" * 64,
    runtime: str = "onnxruntime",
    format_: str = "onnx",
    target: str = "onnx",
    twins: tuple[Twin, ...] = (),
) -> Executed:
    return Executed(
        file=file,
        sha256=sha256,
        size_bytes=1_000_000,
        format=format_,
        target=target,
        precision=precision,
        runtime=runtime,
        runtime_version=f"{runtime} 1",
        threads=1,
        twins=twins,
    )


def identity(count: int, sha256: str = IDENTITY) -> ImagesIdentity:
    return ImagesIdentity(name="test", sha256=sha256, count=count, size=16)


def images_record(
    count: int,
    *,
    labels: ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
    facts: Sequence[dict[str, object]] | None = None,
    sha256: str = IDENTITY,
) -> ImagesRecord:
    values = [None] * count if labels is None else [float(v) for v in np.asarray(labels)]
    return ImagesRecord(
        identity=identity(count, sha256),
        source="a test",
        label=None if labels is None else "a test",
        images=tuple(
            ImageFacts.model_validate(
                {
                    "key": f"{row:04d}.png",
                    "photo": f"{row}",
                    "cluster": clusters[row] if clusters else f"{row}",
                    "label": values[row],
                    "luminance": 100.0,
                    "sharpness": 500.0,
                    "short_side": 64,
                    **(facts[row] if facts else {}),
                }
            )
            for row in range(count)
        ),
    )


def score_record(
    scores: ArrayLike,
    ran: Executed | None = None,
    *,
    reference: bool = False,
    sha256: str = IDENTITY,
) -> ScoreRecord:
    values = np.asarray(scores, np.float64)
    return ScoreRecord(
        executed=ran or executed(),
        images=identity(len(values), sha256),
        is_reference=reference,
        scores=tuple(
            ImageScore(key=f"{row:04d}.png", score=float(value))
            if np.isfinite(value)
            else ImageScore(key=f"{row:04d}.png", error="damaged")
            for row, value in enumerate(values)
        ),
        seconds=0.1,
    )


FLOAT = executed(
    "model.safetensors", sha256="f" * 64, runtime="torch", format_="torch", target="torch"
)


def save_scores(path: Path, images: ImagesRecord, *records: ScoreRecord) -> Run:
    """Write a run directory of scores and read it again."""
    save_record(path, images)
    for record in records:
        save_record(path, record)
    return load_run(path)
