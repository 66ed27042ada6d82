"""The training corpus: photographs, degraded in many ways, with labels measured on each copy.

::

    photographs + faces.csv ─ crop around the face ─ degrade ─ preprocess to S² ─┐
                                     └───────────── preprocess to S² ────────────┴─ label

On disk, in one directory: ``images.npy`` (uint8 ``[N,S,S,3]``), ``records.jsonl`` (one line an
image: photo, split, crop, degradations with parameters, metrics, label) and ``meta.json``, which
is written last: a directory without it is unfinished; building it again goes on where it stopped.

::

    python -m edgefiqa.data.corpus PHOTOS FACES_CSV --out DIR
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.degrade import HELD_OUT, DegradationName, degrade, generator, plan_chain
from edgefiqa.data.photographs import Face, cluster_photos, load_rgb, read_faces
from edgefiqa.data.reference_labels import LABEL_VERSION, measure, reference_label
from edgefiqa.errors import DataError
from edgefiqa.files import write_text
from edgefiqa.preprocess import resize_and_crop

__all__ = [
    "Corpus",
    "CorpusPlan",
    "Split",
    "build_corpus",
    "open_corpus",
]

logger = logging.getLogger(__name__)


class Split(StrEnum):
    """What an image of the corpus is for."""

    TRAIN = "train"
    HELD_BACK = "held_back"  # other photographs, the same kinds of degradation
    HELD_OUT_TYPES = "held_out_types"  # other photographs, kinds never seen in training


@dataclass(frozen=True, kw_only=True)
class CorpusPlan:
    """Everything that decides what a corpus holds.

    Attributes:
        size: Side of the stored images in pixels.
        seed: Seed of the split and of every variant.
        train_variants: Degraded copies of each training photo.
        held_back_variants: Degraded copies of each held-back photo.
        held_back_share: Share of near-duplicate clusters that is held back.
        duplicate_bits: Photos whose 256-bit hashes differ by at most this are near duplicates.
        photos_per_shard: Photos per unit of work; what is lost when a build is interrupted.
    """

    size: int = 288
    seed: int = 42
    train_variants: int = 6
    held_back_variants: int = 3
    held_back_share: float = 0.15
    duplicate_bits: int = 60
    photos_per_shard: int = 16


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A finished corpus.

    Attributes:
        images: uint8 ``[N,S,S,3]``, memory mapped, read only.
        labels: float32 ``[N]``, 0..1.
        splits: The `Split` of each image.
        records: One mapping an image, as stored.
        meta: Plan, counts and label definition.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    splits: NDArray[np.str_]
    records: Sequence[dict[str, Any]]
    meta: dict[str, Any]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the indices of the images of one split."""
        return np.flatnonzero(self.splits == split.value).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One image to make: row in the array, photo, variant number and kinds to draw from."""

    row: int
    face: Face
    split: Split
    variant: int
    kinds: tuple[DegradationName, ...]


def _held_back(clusters: NDArray[np.int64], plan: CorpusPlan) -> set[int]:
    names = np.unique(clusters)
    order = np.random.default_rng(plan.seed).permutation(names)
    return {int(name) for name in order[: round(plan.held_back_share * len(names))]}


def _plan_jobs(
    faces: Sequence[Face], clusters: NDArray[np.int64], plan: CorpusPlan
) -> list[list[_Job]]:
    """List the images to make, one inner list a photo."""
    seen = tuple(kind for kind in DegradationName if kind not in HELD_OUT)
    held_back = _held_back(clusters, plan)
    row, jobs = 0, []
    for face, cluster in zip(faces, clusters, strict=True):
        wanted: list[tuple[Split, tuple[DegradationName, ...]]]
        if int(cluster) in held_back:
            wanted = [(Split.HELD_BACK, seen)] * plan.held_back_variants
            wanted += [(Split.HELD_OUT_TYPES, (kind,)) for kind in sorted(HELD_OUT)]
        else:
            wanted = [(Split.TRAIN, seen)] * plan.train_variants
        jobs.append(
            [
                _Job(row=row + i, face=face, split=split, variant=i, kinds=kinds)
                for i, (split, kinds) in enumerate(wanted)
            ]
        )
        row += len(wanted)
    return jobs


def _crop_box(
    face: Face, shape: tuple[int, int], size: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a crop: a square from 1.1 times the face up to the photo, or the whole photo.

    Never smaller than the stored size where the photo allows it: an enlarged crop would be soft
    and yet labelled as flawless.
    """
    height, width = shape
    whole, fraction, jitter = rng.random() < 0.25, rng.random(), rng.uniform(-0.1, 0.1, 2)
    if whole:
        return 0, 0, width, height
    short = min(height, width)
    smallest = min(short, max(size, round(1.1 * max(face.width, face.height))))
    side = round(smallest * (short / smallest) ** fraction)
    left = round(face.x + face.width / 2 + jitter[0] * face.width - side / 2)
    top = round(face.y + face.height / 2 + jitter[1] * face.height - side / 2)
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return left, top, left + side, top + side


def _make(job: _Job, photo: NDArray[np.uint8], plan: CorpusPlan) -> tuple[Any, dict[str, Any]]:
    """Make one image and its record."""
    rng = generator(plan.seed, job.face.name, job.variant)
    height, width = photo.shape[:2]
    left, top, right, bottom = _crop_box(job.face, (height, width), plan.size, rng)
    crop = photo[top:bottom, left:right]
    pristine_share = 0.0 if job.split is Split.HELD_OUT_TYPES else 0.1
    steps = plan_chain(rng, job.kinds, pristine_share=pristine_share)
    damaged, applied = degrade(crop, steps, rng)
    original = resize_and_crop(Image.fromarray(crop), plan.size)
    stored = resize_and_crop(Image.fromarray(damaged), plan.size)
    qualities = measure(stored, original)
    record = {
        "row": job.row,
        "photo": job.face.name,
        "split": job.split.value,
        "variant": job.variant,
        "crop": [left, top, right, bottom],
        "degradations": [asdict(step) for step in applied],
        "qualities": {name: round(value, 6) for name, value in qualities.items()},
        "label": round(reference_label(qualities), 6),
    }
    return stored, record


def _images_path(out: Path, *, done: bool) -> Path:
    return out / ("images.npy" if done else "images.partial.npy")


def _build_shard(
    number: int, jobs: Sequence[_Job], photos: Path, out: Path, plan: CorpusPlan
) -> int:
    """Make the images of one shard in place and, last, its records. Runs in a worker process."""
    import torch

    torch.set_num_threads(1)
    images = np.load(_images_path(out, done=False), mmap_mode="r+")
    lines, name, photo = [], "", np.empty((0, 0, 3), np.uint8)
    for job in jobs:
        if job.face.name != name:
            name, photo = job.face.name, load_rgb(photos / job.face.name)
        images[job.row], record = _make(job, photo, plan)
        lines.append(json.dumps(record))
    images.flush()
    write_text(_shard_path(out, number), "\n".join(lines) + "\n")
    return len(jobs)


def _shard_path(out: Path, number: int) -> Path:
    return out / "shards" / f"{number:05d}.jsonl"


def _prepare(out: Path, identity: dict[str, Any], count: int, size: int) -> None:
    """Start a build, or check that the one that lies here is the same one."""
    started = out / "plan.json"
    if started.exists():
        if json.loads(started.read_text(encoding="utf-8")) != identity:
            raise DataError(
                "this folder holds a corpus of another plan", value=out, next_step="name a new one"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    shape = (count, size, size, 3)
    np.lib.format.open_memmap(_images_path(out, done=False), "w+", np.uint8, shape)
    write_text(started, json.dumps(identity, indent=2) + "\n")


def _run_shards(
    shards: Sequence[Sequence[_Job]], photos: Path, out: Path, plan: CorpusPlan, workers: int
) -> Iterator[int]:
    """Build the missing shards; give the number of images after each."""
    todo = [n for n in range(len(shards)) if not _shard_path(out, n).exists()]
    yield sum(len(shards[n]) for n in range(len(shards)) if n not in set(todo))
    # Forked workers would inherit the parent's torch threads in an unusable state.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_build_shard, n, shards[n], photos, out, plan) for n in todo]
        for future in as_completed(futures):
            yield future.result()


def build_corpus(
    photos: Path, faces_csv: Path, out: Path, *, plan: CorpusPlan | None = None, workers: int = 2
) -> Corpus:
    """Build a corpus, or go on with an interrupted one.

    Args:
        photos: Folder of the photographs.
        faces_csv: Their face boxes.
        out: The corpus folder.
        plan: What to build.
        workers: Processes.

    Returns:
        The finished corpus.

    Raises:
        DataError: A photo is missing, or `out` holds a corpus of another plan.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    plan = plan or CorpusPlan()
    if (out / "meta.json").exists():
        return open_corpus(out)
    faces = read_faces(faces_csv)
    missing = [face.name for face in faces if not (photos / face.name).is_file()]
    if missing:
        raise DataError(
            "photographs are missing", value=", ".join(missing[:5]), allowed=str(photos)
        )
    clusters = cluster_photos(
        [photos / face.name for face in faces], duplicate_bits=plan.duplicate_bits
    )
    jobs = _plan_jobs(faces, clusters, plan)
    step = plan.photos_per_shard
    shards = [list(chain.from_iterable(jobs[i : i + step])) for i in range(0, len(jobs), step)]
    count = sum(len(shard) for shard in shards)
    identity = {**asdict(plan), "label": LABEL_VERSION, "photos": len(faces), "images": count}
    _prepare(out, identity, count, plan.size)
    columns = ("[cyan]corpus", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("corpus", total=count)
        for made in _run_shards(shards, photos, out, plan, workers):
            progress.advance(task, made)
    meta = {**identity, "clusters": len(np.unique(clusters))}
    _finish(out, meta, len(shards))
    return open_corpus(out)


def _finish(out: Path, meta: dict[str, Any], shards: int) -> None:
    """Join the records, give the images their final name and write the meta file last."""
    text = "".join(_shard_path(out, n).read_text(encoding="utf-8") for n in range(shards))
    write_text(out / "records.jsonl", text)
    partial = _images_path(out, done=False)
    if partial.exists():
        partial.replace(_images_path(out, done=True))
    splits = [json.loads(line)["split"] for line in text.splitlines()]
    counts = {split.value: splits.count(split.value) for split in Split}
    write_text(out / "meta.json", json.dumps({**meta, "splits": counts}, indent=2) + "\n")


def open_corpus(path: Path) -> Corpus:
    """Open a finished corpus.

    Args:
        path: Its folder.

    Returns:
        The corpus; images are mapped, not read.

    Raises:
        DataError: The folder is no finished corpus, or its files do not fit each other.
    """
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        lines = (path / "records.jsonl").read_text(encoding="utf-8").splitlines()
        images = np.load(_images_path(path, done=True), mmap_mode="r")
    except OSError as fault:
        next_step = "build it with edgefiqa.data.corpus.build_corpus"
        raise DataError("no finished corpus", value=path, next_step=next_step) from fault
    records = [json.loads(line) for line in lines]
    if len(records) != len(images) or [r["row"] for r in records] != list(range(len(records))):
        raise DataError("records and images of the corpus do not fit", value=path)
    return Corpus(
        images=images,
        labels=np.array([record["label"] for record in records], dtype=np.float32),
        splits=np.array([record["split"] for record in records]),
        records=records,
        meta=meta,
    )


def _command(
    photos: Annotated[Path, typer.Argument(help="Folder of the photographs.")],
    faces: Annotated[Path, typer.Argument(help="faces.csv, the face boxes.")],
    out: Annotated[Path, typer.Option(help="The corpus folder.")],
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Build a corpus, or go on with an interrupted one."""
    logging.basicConfig(level=logging.INFO)
    logger.info("corpus: %s", build_corpus(photos, faces, out, workers=workers).meta)


if __name__ == "__main__":
    typer.run(_command)
