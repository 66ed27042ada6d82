"""The image set: the one form in which images, labels and pseudo-labels reach training.

A folder of WebDataset shards whose images are stored as uncompressed ``.npy``, so that the same
files stream through WebDataset or Ray and are mapped into memory, without decoding, by training::

    SET/shards/00000.tar   <key>.npy (uint8 H×W×3, RGB) and <key>.json (the record), byte for byte
                           the same whenever it is built from the same source
    SET/index.jsonl        one line an image: its record and where its pixels lie
    SET/meta.json          what it was made from; written last: without it the set is unfinished

A record holds at least key, photo, cluster, split, label and sha256 (of the pixel bytes).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import DataError
from edgefiqa.files import sha256_of, staged_path, write_text
from edgefiqa.plan_file import claim_folder
from edgefiqa.workers import end_with_parent

__all__ = [
    "FORMAT",
    "Entry",
    "ImageSet",
    "Split",
    "build_image_set",
    "full_disk_named",
    "is_image_set",
    "open_image_set",
    "shard_path",
]

FORMAT = "edgefiqa-image-set/1"

Record = dict[str, Any]
Job = TypeVar("Job")


class Split(StrEnum):
    """What an image is for."""

    TRAIN = "train"
    HELD_BACK = "held_back"  # other photographs, of the same kind
    HELD_OUT_TYPES = "held_out_types"  # other photographs, degradations never seen in training


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image on its way into a set.

    Attributes:
        record: Has key, photo, cluster, split and label, and whatever else is known.
        image: uint8 RGB ``[H,W,3]``; None for a photograph that could not be read, whose record
            then has ``error`` and is listed in the meta file.
    """

    record: Record
    image: NDArray[np.uint8] | None


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A finished set, mapped into memory.

    Attributes:
        path: Its folder.
        meta: What it was made from.
        records: One mapping an image.
    """

    path: Path
    meta: dict[str, Any]
    records: Sequence[Record]
    _maps: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size(self) -> int:
        """Short side of every image in pixels."""
        return int(self.meta["size"])

    @property
    def identity(self) -> str:
        """sha256 of the index, which holds the sha256 of every image."""
        return str(self.meta["index_sha256"])

    @cached_property
    def labels(self) -> NDArray[np.float32]:
        """Labels ``[N]``, NaN where an image has none."""
        values = [record["label"] for record in self.records]
        return np.array([np.nan if v is None else v for v in values], dtype=np.float32)

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        """The `Split` of each image ``[N]``."""
        return np.array([record["split"] for record in self.records])

    @property
    def keys(self) -> list[str]:
        """Unique names of the images, in order."""
        return [record["key"] for record in self.records]

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image.

        Args:
            row: Its place in the set.

        Returns:
            uint8 RGB ``[H,W,3]``, mapped from disk and read only.
        """
        record = self.records[row]
        name, start = record["shard"], record["offset"]
        if name not in self._maps:
            self._maps[name] = np.memmap(self.path / "shards" / name, np.uint8, "r")
        height, width = record["height"], record["width"]
        return self._maps[name][start : start + height * width * 3].reshape(height, width, 3)

    def rows(self, split: Split | None = None) -> NDArray[np.int64]:
        """Return the rows of one split, or all rows."""
        chosen = np.ones(len(self), bool) if split is None else self.splits == split.value
        return np.flatnonzero(chosen).astype(np.int64)


def is_image_set(path: Path) -> bool:
    """Tell whether a folder holds a finished image set."""
    return (path / "meta.json").is_file() and (path / "index.jsonl").is_file()


def open_image_set(path: Path) -> ImageSet:
    """Open a finished set.

    Args:
        path: Its folder.

    Returns:
        The set; pixels are mapped, not read.

    Raises:
        DataError: The folder is no finished set, or its files do not fit each other.
    """
    next_step = "build it with `edgefiqa data degrade` or `edgefiqa data pack`"
    if not is_image_set(path):
        raise DataError("no finished image set", value=path, next_step=next_step)
    meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    if meta.get("format") != FORMAT:
        found = f"{path} ({meta.get('format')!r})"
        raise DataError("image set of another format", value=found, allowed=FORMAT)
    if sha256_of(path / "index.jsonl") != meta["index_sha256"]:
        raise DataError(
            "the index was changed after the set was built", value=path, next_step=next_step
        )
    for name, size in meta["shards"].items():
        shard = path / "shards" / name
        if not shard.is_file() or shard.stat().st_size != size:
            raise DataError("shard missing or cut short", value=shard, next_step=next_step)
    lines = (path / "index.jsonl").read_text(encoding="utf-8").splitlines()
    return ImageSet(path=path, meta=meta, records=[json.loads(line) for line in lines])


def shard_path(out: Path, number: int) -> Path:
    """Return where a shard of a set lies."""
    return out / "shards" / f"{number:05d}.tar"


@contextmanager
def full_disk_named(target: Path) -> Iterator[None]:
    """Turn "no space left on device" into an error that names the file and what to do.

    Raises:
        DataError: The disk is full.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        next_step = "free space and run the same command again: it goes on where it stopped"
        raise DataError("the disk is full", value=target, next_step=next_step) from fault


def build_image_set(
    out: Path,
    *,
    plan: dict[str, Any],
    jobs: Sequence[Job],
    make: Callable[[Job], Iterable[Entry]],
    workers: int,
    title: str,
) -> ImageSet:
    """Build a set shard by shard in worker processes, or go on with an interrupted build.

    Args:
        out: The set's folder.
        plan: Everything that decides what the set holds, as JSON; has ``size``. A folder with
            another plan is refused.
        jobs: One a shard; picklable.
        make: Makes the entries of one shard, the same whichever process calls it; picklable.
        workers: Processes; 0 builds in this one.
        title: What the progress bar says.

    Returns:
        The finished set.

    Raises:
        DataError: `out` holds a set of another plan, or the disk is full.
    """
    with full_disk_named(out):
        _start(out, plan)
        if not is_image_set(out):
            _build_shards(out, jobs, make, workers, title)
            _finish(out, plan, len(jobs))
    return open_image_set(out)


def _start(out: Path, plan: dict[str, Any]) -> None:
    """Start a build, or check that the one that lies here is the same one."""
    claim_folder(out, plan, holds="another set", error=DataError)
    # What a killed worker was writing.
    for left in (out / "shards").glob(".staged-*"):
        shutil.rmtree(left, ignore_errors=True)


def _build_shards(
    out: Path,
    jobs: Sequence[Job],
    make: Callable[[Job], Iterable[Entry]],
    workers: int,
    title: str,
) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    todo = [n for n in range(len(jobs)) if not shard_path(out, n).exists()]
    columns = (TextColumn("[cyan]{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TextColumn("shards"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=len(jobs), completed=len(jobs) - len(todo))
        for _ in _run([(shard_path(out, n), make, jobs[n]) for n in todo], workers):
            progress.advance(task)


def _run(
    calls: Sequence[tuple[Path, Callable[[Job], Iterable[Entry]], Job]], workers: int
) -> Iterator[None]:
    """Write shards, here or in worker processes; yield after each."""
    if not workers or not calls:
        for call in calls:
            _write_shard(*call)
            yield
        return
    # Forked workers would inherit the parent's torch threads in an unusable state.
    with ProcessPoolExecutor(
        min(workers, len(calls)), mp_context=get_context("spawn"), initializer=end_with_parent
    ) as pool:
        futures = [pool.submit(_write_shard, path, make, job) for path, make, job in calls]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))


def _write_shard(path: Path, make: Callable[[Job], Iterable[Entry]], job: Job) -> None:
    """Make one shard: whole or absent. Runs in a worker process."""
    with (
        full_disk_named(path),
        staged_path(path) as stage,
        tarfile.open(stage, "w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for entry in make(job):
            record = dict(entry.record)
            if entry.image is not None:
                record["sha256"] = hashlib.sha256(entry.image.tobytes()).hexdigest()
                buffer = io.BytesIO()
                np.save(buffer, np.ascontiguousarray(entry.image))
                _add(archive, f"{record['key']}.npy", buffer.getvalue())
            _add(archive, f"{record['key']}.json", json.dumps(record).encode())


def _index_shard(path: Path) -> Iterator[Record]:
    """Yield the records of one shard; with pixels: shard, offset, height and width as well."""
    place: Record = {}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            if member.name.endswith(".npy"):
                version = np.lib.format.read_magic(content)
                assert version == (1, 0)
                shape, _, _ = np.lib.format.read_array_header_1_0(content)
                offset = member.offset_data + content.tell()
                place = {"shard": path.name, "offset": offset}
                place |= {"height": shape[0], "width": shape[1]}
            else:
                yield json.load(content) | place
                place = {}


def _finish(out: Path, plan: dict[str, Any], shards: int) -> None:
    """Write the index and, last, the meta file."""
    found = [record for n in range(shards) for record in _index_shard(shard_path(out, n))]
    kept = [record for record in found if "shard" in record]
    if len({record["key"] for record in kept}) != len(kept):
        raise DataError("two images of the set have one key", value=out)
    index = out / "index.jsonl"
    write_text(index, "".join(json.dumps(record) + "\n" for record in kept))
    splits = [record["split"] for record in kept]
    meta = {
        "format": FORMAT,
        **plan,
        "count": len(kept),
        "splits": {split.value: splits.count(split.value) for split in Split},
        "skipped": [record for record in found if "shard" not in record],
        "index_sha256": sha256_of(index),
        "shards": {
            shard_path(out, n).name: shard_path(out, n).stat().st_size for n in range(shards)
        },
    }
    write_text(out / "meta.json", json.dumps(meta, indent=2) + "\n")
