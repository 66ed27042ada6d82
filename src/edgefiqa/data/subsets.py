"""Image sets made from image sets: some of the images, at the same size or a smaller one.

Keys, labels and splits stay, so pseudo-labels of the larger images belong to the smaller ones too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.image_set import Entry, ImageSet, Split, build_image_set, open_image_set
from edgefiqa.data.pack import resize_short_side
from edgefiqa.errors import DataError, UsageError

__all__ = ["derive_image_set", "draw_clusters", "independent_units"]

_IMAGES_PER_SHARD = 256
# By these, sets for self-training tell that they come from the same photographs.
_ORIGIN = ("photos", "photos_sha256", "clusters", "duplicate_bits")
_PLACE = ("shard", "offset", "height", "width", "sha256")


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """The unit of work that a worker process gets.

    Attributes:
        source: The set to take from.
        rows: Its rows.
        size: Short side in pixels.
    """

    source: Path
    rows: tuple[int, ...]
    size: int


def derive_image_set(
    images: ImageSet,
    out: Path,
    *,
    size: int | None = None,
    rows: NDArray[np.int64] | None = None,
    workers: int = 1,
) -> ImageSet:
    """Make a smaller set, or go on with an interrupted attempt.

    Args:
        images: The set to take from.
        out: The new set's folder.
        size: Short side in pixels, at most that of the images; resized as scorers resize.
        rows: Which images; all of them if not given.
        workers: Processes; 1 is this one.

    Returns:
        The finished set.

    Raises:
        UsageError: The size is larger than the images: no detail would be added.
        DataError: `out` holds another set, or the disk is full.
    """
    size = size or images.size
    if size > images.size:
        raise UsageError(
            "the image set is smaller than the recipe asks for",
            value=f"{images.path}: {images.size}",
            allowed=f"{size} or more",
            next_step="name the folder of photographs instead, or build the set at this size",
        )
    chosen = images.rows() if rows is None else np.sort(rows)
    kept = ("label", "label_scale", "source", *_ORIGIN)
    plan = {
        "size": size,
        **{name: images.meta[name] for name in kept if name in images.meta},
        "from": {"index_sha256": images.identity, "size": images.size},
        "rows": len(chosen),
        "rows_sha256": sha256(chosen.tobytes()).hexdigest(),
        "images_per_shard": _IMAGES_PER_SHARD,
    }
    jobs = [
        _Shard(source=images.path, rows=tuple(part.tolist()), size=size)
        for part in np.split(chosen, range(_IMAGES_PER_SHARD, len(chosen), _IMAGES_PER_SHARD))
    ]
    return build_image_set(
        out,
        plan=plan,
        jobs=jobs,
        make=_make_shard,
        workers=workers if min(workers, len(jobs)) > 1 else 0,
        title=out.name,
    )


@lru_cache(maxsize=2)
def _opened(path: Path) -> ImageSet:
    return open_image_set(path)


def _make_shard(shard: _Shard) -> Iterator[Entry]:
    """Copy or resize the images of one shard. Runs in a worker process."""
    images = _opened(shard.source)
    for row in shard.rows:
        record = {k: v for k, v in images.records[row].items() if k not in _PLACE}
        image = images.image(row)
        if shard.size != images.size:
            image = resize_short_side(Image.fromarray(image), shard.size, name=record["key"])
        yield Entry(record=record, image=image)


def independent_units(images: ImageSet) -> NDArray[np.int64]:
    """Number the units of a set that do not depend on each other.

    Args:
        images: The set.

    Returns:
        int64 ``[N]``: equal for images of one cluster of near duplicates or, where the cluster is
        not known, of one photograph.
    """
    names = [
        f"photo {record['photo']}" if record["cluster"] is None else f"cluster {record['cluster']}"
        for record in images.records
    ]
    numbers: NDArray[np.int64] = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return numbers


def draw_clusters(images: ImageSet, split: Split, count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw whole clusters at random until there are enough images.

    Args:
        images: The set.
        split: Which of its images.
        count: Images to draw; the last cluster may bring a few more.
        seed: Seed of the draw.

    Returns:
        Rows, ascending.

    Raises:
        DataError: The split has fewer images.
    """
    rows = images.rows(split)
    if len(rows) < count:
        found = f"{len(rows)} images of the split {split.value!r} in {images.path}"
        raise DataError("there are too few images to draw from", value=found, allowed=f"≥ {count}")
    units = independent_units(images)[rows]
    order = np.random.default_rng(seed).permutation(np.unique(units))
    sizes = np.bincount(units)[order]
    needed = int(np.searchsorted(np.cumsum(sizes), count)) + 1
    return rows[np.isin(units, order[:needed])]
