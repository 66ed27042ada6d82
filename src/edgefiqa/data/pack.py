"""Pack photographs into an image set: decoded once, resized once, mapped into memory ever after.

::

    photos (+ manifest.jsonl of a check) ─ decode, upright, RGB ─ short side to S ─▶ image set

The resize rule is that of the scorers (`edgefiqa.preprocess`); the long side stays whole, so that
training can crop. Labels go to 0..1: by the scale that the manifest names, else by the extremes
of the training labels; the meta file records which, so that scores can be mapped back.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.check import MAX_UNREADABLE_SHARE
from edgefiqa.data.image_set import Entry, ImageSet, Split, build_image_set, is_image_set
from edgefiqa.errors import DataError, ImageError
from edgefiqa.files import sha256_of
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import MAX_PIXELS, check_size, open_photo, resized_shape, to_rgb

__all__ = ["LabelScale", "pack_photos", "resize_short_side"]

_PHOTOS_PER_SHARD = 64
_LOG = "unreadable.jsonl"


@dataclass(frozen=True, kw_only=True)
class LabelScale:
    """How scores become labels: ``label = (score − low) / (high − low)``.

    Attributes:
        low: The score that becomes 0.
        high: The score that becomes 1.
        source: Where the two come from.
    """

    low: float
    high: float
    source: str

    def label(self, score: float) -> float:
        """Return the label of a score; held-back scores may lie a little outside 0..1."""
        return (score - self.low) / (self.high - self.low)


@dataclass(frozen=True, kw_only=True)
class _Photo:
    """One photo to pack.

    Attributes:
        path: The file.
        record: Its record in the set.
        sha256: What the file had when it was checked, if it was.
    """

    path: Path
    record: Mapping[str, Any]
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """The unit of work that a worker process gets.

    Attributes:
        photos: What to pack.
        size: Short side in pixels.
        log: File that names the unreadable photos of all shards.
        allowed: So many may be unreadable in the whole set.
        total: Photos in the whole set.
    """

    photos: tuple[_Photo, ...]
    size: int
    log: Path
    allowed: int
    total: int


def resize_short_side(image: Image.Image, size: int, *, name: str) -> NDArray[np.uint8]:
    """Resize the short side and keep the whole long side.

    Args:
        image: RGB, upright.
        size: Short side in pixels.
        name: What messages call the photo.

    Returns:
        uint8 RGB ``[H,W,3]``; the same pixels that `edgefiqa.preprocess.resize_and_crop` cuts
        its central square from.

    Raises:
        ImageError: The photo is so narrow that it would exceed ``MAX_PIXELS``.
    """
    width, height = resized_shape(*image.size, size)
    if width * height > MAX_PIXELS:
        what = f"the photo is too narrow: {image.width}×{image.height} becomes {width}×{height}"
        raise ImageError(what, value=name, allowed=f"at most {MAX_PIXELS} pixels after resizing")
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def pack_photos(
    folder: Path, manifest: Path | None, out: Path, size: int = 288, workers: int = 2
) -> ImageSet:
    """Pack a folder, or go on with an interrupted packing.

    Args:
        folder: The photos.
        manifest: ``manifest.jsonl`` of a check: which photos, with scores, clusters and splits.
            Without it every photo of the folder is packed, unlabelled, for training.
        out: The set's folder.
        size: Short side in pixels.
        workers: Processes.

    Returns:
        The finished set. Photos that could not be read are listed in its meta as ``skipped``.

    Raises:
        DataError: More than 1 % of the photos cannot be read, the manifest does not fit the
            folder, `out` holds another set, or the disk is full.
        UsageError: The size is unusable or the folder holds no photo.
    """
    check_size(size)
    rows = _listed(folder) if manifest is None else _read_manifest(manifest)
    scale = _label_scale(rows)
    photos = [
        _Photo(
            path=folder / row["image"],
            record=_record(number, row, scale),
            sha256=row.get("sha256"),
        )
        for number, row in enumerate(rows)
    ]
    allowed = int(MAX_UNREADABLE_SHARE * len(photos))
    shards = [
        _Shard(
            photos=tuple(photos[i : i + _PHOTOS_PER_SHARD]),
            size=size,
            log=out / _LOG,
            allowed=allowed,
            total=len(photos),
        )
        for i in range(0, len(photos), _PHOTOS_PER_SHARD)
    ]
    images = build_image_set(
        out,
        plan=_plan(folder, rows, scale, size),
        jobs=shards,
        make=_make_shard,
        workers=workers,
        title="packing",
    )
    return _accept(images, shards[0])


def _listed(folder: Path) -> list[dict[str, Any]]:
    """Stand in for a manifest: every photo, unlabelled."""
    if not folder.is_dir():
        raise DataError("there is no such folder", value=folder, next_step="check the path")
    names = [path.relative_to(folder).as_posix() for path in find_photos([folder])]
    return [
        {"image": name, "score": None, "range": None, "cluster": None, "split": Split.TRAIN.value}
        for name in names
    ]


def _read_manifest(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row = json.loads(line)
            image = PurePosixPath(row["image"])
            if image.is_absolute() or ".." in image.parts:
                what = "a photo of the manifest lies outside the folder"
                raise DataError(what, value=f"{path}, line {number}: {image}")
            if row["score"] is not None and not math.isfinite(row["score"]):
                raise ValueError(row["score"])
            rows.append({**row, "split": Split(row["split"]).value, "cluster": row["cluster"]})
    except OSError as fault:
        what = f"the manifest cannot be read ({fault.strerror})"
        raise DataError(what, value=path, next_step="run edgefiqa data check") from fault
    except (ValueError, KeyError, TypeError) as fault:
        what = f"the manifest is damaged (line {len(rows) + 1}: {fault!r})"
        raise DataError(what, value=path, next_step="run edgefiqa data check again") from fault
    if not rows:
        raise DataError("the manifest is empty", value=path, next_step="run edgefiqa data check")
    return rows


def _label_scale(rows: Sequence[Mapping[str, Any]]) -> LabelScale | None:
    """Choose what becomes 0 and 1; none for unlabelled sets."""
    labelled = [row for row in rows if row["score"] is not None]
    if not labelled:
        return None
    ranges = {tuple(row["range"]) for row in labelled if row.get("range")}
    if len(ranges) == 1 and all(row.get("range") for row in labelled):
        low, high = next(iter(ranges))
        if not low < high:
            raise DataError("the scale of the labels is empty", value=(low, high))
        return LabelScale(low=float(low), high=float(high), source="the layout's range")
    scores = [float(row["score"]) for row in labelled if row["split"] == Split.TRAIN]
    if len(set(scores)) < 2:
        what = "the training labels are constant or absent"
        raise DataError(what, value=scores[:1], allowed="two different scores or more")
    return LabelScale(low=min(scores), high=max(scores), source="extremes of the training labels")


def _record(number: int, row: Mapping[str, Any], scale: LabelScale | None) -> dict[str, Any]:
    """Make a photo's record; scores stay beside the labels made of them."""
    score = row["score"]
    stem = PurePosixPath(row["image"]).stem
    return {
        # A dot would end the key in WebDataset; tar names are short and ASCII; numbers are unique.
        "key": f"{number:07d}-{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:40]}",
        "photo": row["image"],
        "cluster": row["cluster"],
        "split": row["split"],
        "label": None if score is None or scale is None else scale.label(score),
        "score": score,
        "line": row.get("line"),
    }


def _plan(
    folder: Path, rows: Sequence[Mapping[str, Any]], scale: LabelScale | None, size: int
) -> dict[str, Any]:
    """Describe the set: same photos, labels and size, same plan, wherever they lie.

    A changed photo is noticed through the manifest's sha256, else through its size.
    """
    lines = [
        json.dumps([row, row.get("sha256") or _bytes_of(folder / row["image"])], sort_keys=True)
        for row in rows
    ]
    return {
        "size": size,
        "source": "photographs",
        "photos": len(rows),
        "photos_sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "label": None if scale is None else "scores of a label file",
        "label_scale": None if scale is None else vars(scale),
        "photos_per_shard": _PHOTOS_PER_SHARD,
    }


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _make_shard(shard: _Shard) -> Iterator[Entry]:
    """Decode and resize the photos of one shard. Runs in a worker process."""
    for photo in shard.photos:
        name = str(photo.path)
        try:
            rgb = to_rgb(open_photo(photo.path), name=name)
            if photo.sha256 and sha256_of(photo.path) != photo.sha256:
                raise ImageError("the photo was changed after the check", value=name)
            image = resize_short_side(rgb, shard.size, name=name)
        except ImageError as fault:
            _log_unreadable(photo, fault.what, shard)
            yield Entry(record={**photo.record, "error": fault.what}, image=None)
        else:
            yield Entry(record=dict(photo.record), image=image)


def _log_unreadable(photo: _Photo, error: str, shard: _Shard) -> None:
    """Count an unreadable photo and stop as soon as all shards together have too many."""
    line = json.dumps([photo.record["photo"], error]) + "\n"
    with shard.log.open("a", encoding="utf-8") as file:  # short appends do not mix
        file.write(line)
    lines = shard.log.read_text(encoding="utf-8").splitlines()
    # A set, since an interrupted shard meets its photos again.
    names = list(dict.fromkeys(json.loads(line)[0] for line in lines))
    if len(names) > shard.allowed:
        raise _too_many(names, shard.total)


def _too_many(names: Sequence[str], total: int) -> DataError:
    found = f"{len(names)} of {total} and perhaps more: {', '.join(names[:5])}"
    next_step = "run edgefiqa data check; then pack into a new folder, or remove this one"
    return DataError(
        "more than 1 % of the photos cannot be read: packing stopped",
        value=found,
        next_step=next_step,
    )


def _accept(images: ImageSet, shard: _Shard) -> ImageSet:
    """Refuse a set with too many holes, whatever became of the log on the way."""
    skipped = [record["photo"] for record in images.meta["skipped"]]
    if len(skipped) > shard.allowed:
        if is_image_set(images.path):
            (images.path / "meta.json").unlink()
        raise _too_many(skipped, shard.total)
    shard.log.unlink(missing_ok=True)
    return images
