"""Pseudo-labelling: images and teachers in, one row an image out.

::

    images ─ chunks ─ decode, resize, score in batches ─ chunks/*.csv ─ logistic map ─ labels.csv

A chunk is scored by one process, in batches that depend on nothing but the chunk, and is on disk
whole or not at all. So a run that was killed, a run with other workers and a run on Ray give the
same bytes. ``labels.meta.json`` is written last; without it the labels are unfinished.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgefiqa.data.image_set import ImageSet, Split, full_disk_named, is_image_set, open_image_set
from edgefiqa.errors import DataError, UsageError
from edgefiqa.files import sha256_of, write_text
from edgefiqa.labelling_choices import Engine
from edgefiqa.metrics import Logistic, fit_logistic
from edgefiqa.photo_files import find_photos
from edgefiqa.plan_file import claim_folder
from edgefiqa.train.chunk_scoring import (
    Chunk,
    LabelSettings,
    Teacher,
    load_teacher,
    scoring_size,
)
from edgefiqa.train.evaluation import spread_rows
from edgefiqa.train.frozen_teacher import TeacherRuntime, import_onnxruntime
from edgefiqa.train.label_table import (
    COLUMNS,
    LABELS_NAME,
    META_NAME,
    PseudoLabel,
    map_scores,
    read_labels,
    read_rows,
    write_rows,
)
from edgefiqa.train.local_labels import run_local
from edgefiqa.workers import processor_count

__all__ = ["Engine", "Labels", "default_workers", "label_images"]

_FORMAT = "edgefiqa-pseudo-labels/1"
_PARTIAL_NAME = "labels.partial.csv"
_HEADER = write_rows([])
# Four parameters are fitted: more images would cost time and change nothing.
_CALIBRATION_ROWS = 2000


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Finished pseudo-labels.

    Attributes:
        rows: One an image, in order.
        meta: What they were made from.
    """

    rows: Sequence[PseudoLabel] = field(repr=False)
    meta: Mapping[str, Any]


Run = Callable[[Sequence[Chunk]], Iterator[tuple[int, str]]]
"""Scores chunks; yields each one's number and rows as CSV, in any order."""


def default_workers(device: str = "cpu") -> int:
    """Return one worker a core, or one for an accelerator."""
    return processor_count() if device == "cpu" else 1


def label_images(
    models: Sequence[str | Path],
    source: Path | Sequence[Path],
    out: Path,
    *,
    settings: LabelSettings | None = None,
    calibrate: Path | None = None,
    engine: Engine = Engine.LOCAL,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Labels:
    """Label images, or go on with an interrupted run.

    Args:
        models: The teachers, as `load_teacher` takes them; their scores are averaged.
        source: An image set, a folder of photographs, or several photographs and folders.
        out: Folder of the labels.
        settings: How to label.
        calibrate: A labelled set: the logistic map from scores to labels is fitted on its training
            split, whose scores go to ``OUT/calibration``.
        engine: What spreads the work.
        workers: Processes; one a core, or one for an accelerator, if None. With the local engine
            one worker is this process itself.
        on_progress: Called with the images done and the images in all.

    Returns:
        One row an image in the source's order: files of a folder sorted by path, rows of a set.

    Raises:
        DataError: `out` holds other labels, too many images have no score (their rows are kept in
            ``labels.partial.csv``), the disk is full, or no map can be fitted.
        UsageError: No image or no model is named.
    """
    if not models:
        raise UsageError("no model is named", next_step="name one teacher or more")
    teachers = [load_teacher(model) for model in models]
    settings = settings or LabelSettings()
    settings = replace(settings, size=scoring_size(teachers, settings))
    workers = workers or default_workers(settings.device)
    run = _choose(engine, models, teachers, settings, workers)
    plan: dict[str, Any] = {
        "models": [teacher.sha256 for teacher in teachers],
        "settings": _deciding(settings),
        "torch": torch.__version__,
    }
    if settings.runtime is TeacherRuntime.ONNXRUNTIME:
        plan["onnxruntime"] = import_onnxruntime().__version__
    calibration = None
    with full_disk_named(out):
        if calibrate is not None:
            calibration = _calibrate(out / "calibration", calibrate, plan, settings, run)
        chunks, found = _plan_source(source, settings.chunk)
        plan |= {"source": found, "calibration": calibration}
        return _label(out, chunks, plan, settings, run, on_progress)


def _deciding(settings: LabelSettings) -> dict[str, Any]:
    """Return the settings that rows depend on."""
    values = asdict(settings)
    return {name: values[name] for name in values if name not in ("readers", "max_unreadable")}


def _choose(
    engine: Engine,
    models: Sequence[str | Path],
    teachers: Sequence[Teacher],
    settings: LabelSettings,
    workers: int,
) -> Run:
    # Absolute: workers on Ray have another working directory.
    names = tuple(str(Path(m).resolve()) if Path(m).exists() else str(m) for m in models)
    if engine is Engine.LOCAL:
        return lambda chunks: run_local(names, teachers, settings, chunks, workers=workers)
    from edgefiqa.train.ray_labels import run_ray

    return lambda chunks: run_ray(names, settings, chunks, workers=workers)


def _calibrate(
    out: Path, path: Path, plan: Mapping[str, Any], settings: LabelSettings, run: Run
) -> dict[str, Any]:
    """Score the labelled training split and fit the logistic map."""
    images = open_image_set(path)
    labels = images.labels
    rows = [row for row in images.rows(Split.TRAIN).tolist() if np.isfinite(labels[row])]
    if not rows:
        what = "no labelled training image to calibrate with"
        raise DataError(what, value=path, next_step="name the set that the teacher was trained on")
    rows = spread_rows(np.array(rows), _CALIBRATION_ROWS).tolist()
    chunks = _chunks_of_set(images, rows, settings.chunk)
    described = _describe_set(images) | {"split": Split.TRAIN.value}
    calibration_plan = {**plan, "source": described, "calibration": None}
    found = _label(out, chunks, calibration_plan, settings, run, None)
    scored = [(row.raw_score, labels[i]) for row, i in zip(found.rows, rows, strict=True)]
    pairs = np.array([pair for pair in scored if pair[0] is not None], np.float64)
    return {
        "set": images.identity,
        "rows": len(pairs),
        "logistic": asdict(fit_logistic(pairs[:, 0], pairs[:, 1])),
        "label_range": [float(pairs[:, 1].min()), float(pairs[:, 1].max())],
    }


def _bounded(calibration: Mapping[str, Any]) -> Callable[[float], NDArray[np.float64]]:
    """Return the fitted map, kept within the labels it was fitted to.

    The asymptotes of a map fitted to few different scores may lie anywhere.
    """
    logistic, (low, high) = Logistic(**calibration["logistic"]), calibration["label_range"]
    return lambda score: np.clip(logistic(score), low, high)


def _describe_set(images: ImageSet) -> dict[str, Any]:
    return {"kind": "image set", "identity": images.identity}


def _plan_source(source: Path | Sequence[Path], size: int) -> tuple[list[Chunk], dict[str, Any]]:
    """Return the chunks, and what tells this source from others."""
    if isinstance(source, Path) and is_image_set(source):
        images = open_image_set(source)
        return _chunks_of_set(images, range(len(images)), size), _describe_set(images)
    if isinstance(source, Path) and source.is_dir():
        folder, photos = source.resolve(), find_photos([source])
        names = [str(photo.relative_to(source)) for photo in photos]
    else:
        paths = [source] if isinstance(source, Path) else source
        folder, names = Path.cwd(), [str(photo) for photo in find_photos(paths)]
    chunks = [
        Chunk(number=number, source=str(folder), photos=tuple(names[first : first + size]))
        for number, first in enumerate(range(0, len(names), size))
    ]
    text = "\n".join(names).encode("utf-8", "surrogateescape")
    # By name only: a photograph may be mended between two attempts.
    return chunks, {"kind": "photographs", "names_sha256": sha256(text).hexdigest()}


def _chunks_of_set(images: ImageSet, rows: Sequence[int], size: int) -> list[Chunk]:
    """Cut rows into chunks, none of which reaches over the end of a shard."""
    runs: list[tuple[int, ...]] = []
    for _, group in groupby(rows, key=lambda row: images.records[row]["shard"]):
        shard = list(group)
        runs += [tuple(shard[i : i + size]) for i in range(0, len(shard), size)]
    source = str(images.path.resolve())
    return [Chunk(number=n, source=source, rows=run) for n, run in enumerate(runs)]


def _label(
    out: Path,
    chunks: Sequence[Chunk],
    plan: Mapping[str, Any],
    settings: LabelSettings,
    run: Run,
    on_progress: Callable[[int, int], None] | None,
) -> Labels:
    total = sum(map(len, chunks))
    _start(out, {"format": _FORMAT, **plan, "count": total})
    if not (out / META_NAME).is_file():
        _score_missing(out, chunks, settings.max_unreadable, run, on_progress)
        _finish(out, chunks, plan)
    if on_progress:
        on_progress(total, total)
    rows, meta = read_labels(out)
    return Labels(rows=rows, meta=meta)


def _start(out: Path, plan: Mapping[str, Any]) -> None:
    """Start a run, or check that the one that lies here is the same one."""
    claim_folder(out, plan, holds="other labels", error=DataError)
    # What a killed run was writing.
    for left in (*out.glob(".staged-*"), *(out / "chunks").glob(".staged-*")):
        shutil.rmtree(left, ignore_errors=True)


def _chunk_path(out: Path, number: int) -> Path:
    return out / "chunks" / f"{number:06d}.csv"


def _read_chunk(out: Path, number: int) -> list[PseudoLabel]:
    return read_rows(_HEADER + _chunk_path(out, number).read_text(encoding="utf-8"))


def _score_missing(
    out: Path,
    chunks: Sequence[Chunk],
    max_unreadable: float,
    run: Run,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Score the chunks that are not on disk; stop where too many images have no score."""
    total, done, faults = sum(map(len, chunks)), 0, 0
    names = {path.name for path in (out / "chunks").glob("*.csv")}
    ready = {chunk.number for chunk in chunks if _chunk_path(out, chunk.number).name in names}

    def count(number: int) -> None:
        nonlocal done, faults
        rows = _read_chunk(out, number)
        done += len(rows)
        faults += sum(bool(row.error) for row in rows)
        if faults > max_unreadable * total:
            raise _too_many(out, chunks, faults, total, max_unreadable)
        if on_progress:
            on_progress(done, total)

    for number in sorted(ready):
        count(number)
    todo = [chunk for chunk in chunks if chunk.number not in ready]
    # Closed at once where this stops, so that no worker goes on.
    with closing(run(todo)) as results:  # type: ignore[type-var]
        for number, text in results:
            write_text(_chunk_path(out, number), text)
            count(number)


def _too_many(
    out: Path, chunks: Sequence[Chunk], faults: int, total: int, allowed: float
) -> DataError:
    """Keep the rows so far, forget the chunks with faults, and describe what happened."""
    kept = [c.number for c in chunks if _chunk_path(out, c.number).is_file()]
    rows = {number: _read_chunk(out, number) for number in kept}
    every = [row for number in kept for row in rows[number]]
    write_text(out / _PARTIAL_NAME, write_rows(every))
    for number in kept:  # so that mended photographs are read when the run goes on
        if any(row.error for row in rows[number]):
            _chunk_path(out, number).unlink()
    first = next(row for row in every if row.error)
    return DataError(
        f"labelling stopped: {faults} of {total} images have no score, the first is {first.image} "
        f"({first.error})",
        allowed=f"at most {allowed:.2%} of the images",
        next_step=f"{out / _PARTIAL_NAME} lists them: mend or remove them and run it again",
    )


def _finish(out: Path, chunks: Sequence[Chunk], plan: Mapping[str, Any]) -> None:
    """Join the chunks, map the scores and write the meta file last."""
    rows = [row for chunk in chunks for row in _read_chunk(out, chunk.number)]
    if plan["calibration"] is not None:
        rows = map_scores(rows, _bounded(plan["calibration"]))
    write_text(out / LABELS_NAME, write_rows(rows))
    faults = sum(bool(row.error) for row in rows)
    counts = {"count": len(rows), "scored": len(rows) - faults, "unreadable": faults}
    meta = {"format": _FORMAT, **plan, **counts, "columns": list(COLUMNS)}
    meta["labels_sha256"] = sha256_of(out / LABELS_NAME)
    (out / _PARTIAL_NAME).unlink(missing_ok=True)
    write_text(out / META_NAME, json.dumps(meta, indent=2) + "\n")
    shutil.rmtree(out / "chunks", ignore_errors=True)
