"""The degradation corpus: photographs, damaged in many ways, labelled against their originals.

::

    photographs (+ face boxes) ─ crop around the face ─ degrade ─ preprocess to S² ─┐
                                          └────────── preprocess to S² ─────────────┴─ label

The result is an image set (see `edgefiqa.data.image_set`). Everything random follows from the
seed, the photo's name and the variant's number: the same plan gives the same bytes, and sets of
other variants (`first_variant`) hold other images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.degrade import (
    DEGRADATIONS,
    HELD_OUT,
    DegradationName,
    degrade,
    generator,
    plan_chain,
)
from edgefiqa.data.image_set import Entry, ImageSet, Split, build_image_set
from edgefiqa.data.near_duplicates import cluster_photos, split_clusters
from edgefiqa.data.photographs import Face, load_rgb, read_faces
from edgefiqa.data.reference_labels import (
    LABEL_VERSION,
    SMALLEST_SIDE,
    measure,
    reference_label,
)
from edgefiqa.errors import DataError, UnknownNameError, UsageError
from edgefiqa.memory import keep_memory
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import check_size, resize_and_crop

__all__ = ["CorpusPlan", "build_corpus", "list_faces", "parse_kinds"]


@dataclass(frozen=True, kw_only=True)
class CorpusPlan:
    """Everything that decides what a corpus holds, besides the photographs.

    Attributes:
        size: Side of the stored images in pixels.
        seed: Seed of the split and of every variant.
        variants: Degraded copies of each training photo.
        first_variant: Number of the first: sets with other numbers share no image.
        held_back_variants: Degraded copies of each held-back photo.
        held_out_variants: Copies of each held-back photo for each kind that is left out.
        left_out: Kinds of degradation that training never sees.
        labelled: Measure each copy against its original; otherwise labels are left empty.
        held_back_share: Share of near-duplicate clusters that is held back.
        duplicate_bits: Photos whose 256-bit hashes differ by at most this are near duplicates.
        photos_per_shard: Photos per unit of work; what is lost when a build is interrupted.
    """

    size: int = 288
    seed: int = 42
    variants: int = 6
    first_variant: int = 0
    held_back_variants: int = 3
    held_out_variants: int = 2
    left_out: tuple[DegradationName, ...] = tuple(sorted(HELD_OUT))
    labelled: bool = True
    held_back_share: float = 0.15
    duplicate_bits: int = 60
    photos_per_shard: int = 16


@dataclass(frozen=True, kw_only=True)
class _Photo:
    """One photograph of a shard."""

    path: Path
    face: Face | None
    cluster: int
    held_back: bool


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """The unit of work that a worker process gets."""

    photos: tuple[_Photo, ...]
    plan: CorpusPlan


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """One image to make of a photo."""

    split: Split
    variant: int
    kinds: tuple[DegradationName, ...]
    pristine_share: float


def list_faces(photos: Path, faces_csv: Path | None) -> list[tuple[Path, Face | None]]:
    """List the photographs of a folder with their face boxes, if there are any.

    Args:
        photos: The folder.
        faces_csv: Face boxes; by default ``faces.csv`` in the folder or beside it, if it exists.

    Returns:
        Photos in the order of the file, or sorted and without boxes where there is no file.

    Raises:
        DataError: The folder, or a photo of the file, is missing.
    """
    if not photos.is_dir():
        raise DataError("there is no such folder", value=photos, next_step="check the path")
    beside = (photos / "faces.csv", photos.parent / "faces.csv")
    faces_csv = faces_csv or next((path for path in beside if path.is_file()), None)
    if faces_csv is None:
        return [(path, None) for path in find_photos([photos])]
    faces = [(photos / face.name, face) for face in read_faces(faces_csv)]
    missing = [path.name for path, _ in faces if not path.is_file()]
    if missing:
        found = f"{', '.join(missing[:5])} ({len(missing)} of {len(faces)})"
        raise DataError("photographs are missing", value=found, allowed=f"files of {photos}")
    return list(faces)


def parse_kinds(text: str) -> tuple[DegradationName, ...]:
    """Read names of degradations, separated by commas, in any order.

    Raises:
        UnknownNameError: A name is not known; the message lists those that are.
    """
    names = sorted(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in DEGRADATIONS]
    if unknown:
        allowed = ", ".join(sorted(DEGRADATIONS))
        raise UnknownNameError("unknown degradation", value=", ".join(unknown), allowed=allowed)
    if len(names) == len(DEGRADATIONS):
        raise UsageError("every degradation is left out", allowed="leave at least one in")
    return tuple(DegradationName(name) for name in names)


def build_corpus(
    photos: Path,
    out: Path,
    *,
    faces_csv: Path | None = None,
    plan: CorpusPlan | None = None,
    workers: int = 2,
) -> ImageSet:
    """Build a corpus, or go on with an interrupted one.

    Args:
        photos: Folder of the photographs.
        out: The set's folder.
        faces_csv: Their face boxes, see `list_faces`.
        plan: What to build.
        workers: Processes.

    Returns:
        The finished set.

    Raises:
        DataError: A photo is missing or unreadable, or `out` holds another set.
        UsageError: The size is unusable.
    """
    plan = plan or CorpusPlan()
    check_size(plan.size)
    if plan.labelled and plan.size < SMALLEST_SIDE:
        raise UsageError(
            "images of this size cannot be labelled",
            value=plan.size,
            allowed=f"{SMALLEST_SIDE} or more (MS-SSIM has five scales), or no labels",
        )
    listed = list_faces(photos, faces_csv)
    paths = [path for path, _ in listed]
    clusters = cluster_photos(paths, duplicate_bits=plan.duplicate_bits)
    held_back = split_clusters(clusters, plan.held_back_share, plan.seed)
    items = [
        _Photo(path=path, face=face, cluster=int(cluster), held_back=bool(held))
        for (path, face), cluster, held in zip(listed, clusters, held_back, strict=True)
    ]
    step = plan.photos_per_shard
    shards = [
        _Shard(photos=tuple(items[i : i + step]), plan=plan) for i in range(0, len(items), step)
    ]
    identity = {
        **asdict(plan),
        "left_out": [kind.value for kind in plan.left_out],
        "label": LABEL_VERSION if plan.labelled else None,
        "source": "synthetic degradations of photographs",
        "photos": len(items),
        "clusters": len(np.unique(clusters)),
        "face_boxes": sum(item.face is not None for item in items),
    }
    return build_image_set(
        out, plan=identity, jobs=shards, make=_make_shard, workers=workers, title="degrading"
    )


def _wishes(photo: _Photo, plan: CorpusPlan) -> list[_Wish]:
    """List the images to make of one photo."""
    seen = tuple(kind for kind in DegradationName if kind not in plan.left_out)
    split = Split.HELD_BACK if photo.held_back else Split.TRAIN
    count = plan.held_back_variants if photo.held_back else plan.variants
    # Untouched photos have a known label, and would be the same pixels in every set.
    kinds_and_splits = [(split, seen, 0.05 if plan.labelled else 0.0)] * count
    if photo.held_back:
        for kind in plan.left_out:
            kinds_and_splits += [(Split.HELD_OUT_TYPES, (kind,), 0.0)] * plan.held_out_variants
    return [
        _Wish(split=which, variant=plan.first_variant + i, kinds=kinds, pristine_share=share)
        for i, (which, kinds, share) in enumerate(kinds_and_splits)
    ]


def _make_shard(shard: _Shard) -> Iterator[Entry]:
    """Make the images of one shard. Runs in a worker process."""
    if shard.plan.labelled:
        import torch

        torch.set_num_threads(1)
    keep_memory()
    for photo in shard.photos:
        pixels = load_rgb(photo.path)
        for wish in _wishes(photo, shard.plan):
            yield _make(photo, wish, pixels, shard.plan)


def _crop_box(
    face: Face | None, shape: tuple[int, int], size: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a crop: a square from 1.1 times the face up to the photo, or the whole photo.

    Never smaller than the stored size where the photo allows it: an enlarged crop would be soft
    and yet labelled as flawless.
    """
    height, width = shape
    whole, fraction, jitter = rng.random() < 0.25, rng.random(), rng.uniform(-0.1, 0.1, 2)
    if whole or face is None:
        return 0, 0, width, height
    short = min(height, width)
    smallest = min(short, max(size, round(1.1 * max(face.width, face.height))))
    side = round(smallest * (short / smallest) ** fraction)
    left = round(face.x + face.width / 2 + jitter[0] * face.width - side / 2)
    top = round(face.y + face.height / 2 + jitter[1] * face.height - side / 2)
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return left, top, left + side, top + side


def _scaled(crop: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shrink a crop to a capture size between 1 and 1.5 times the stored size.

    Damage that is done at a much larger size is averaged away by the preprocessing, and codecs
    at their worst would then hardly show.
    """
    wanted = round(size * 1.5 ** rng.random())
    short = min(crop.shape[:2])
    if wanted >= short:
        return crop
    height, width = (round(side * wanted / short) for side in crop.shape[:2])
    resized = Image.fromarray(crop).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _make(photo: _Photo, wish: _Wish, pixels: NDArray[np.uint8], plan: CorpusPlan) -> Entry:
    """Make one image and its record."""
    name = photo.path.name
    rng = generator(plan.seed, name, wish.variant)
    height, width = pixels.shape[:2]
    left, top, right, bottom = _crop_box(photo.face, (height, width), plan.size, rng)
    crop = _scaled(pixels[top:bottom, left:right], plan.size, rng)
    steps = plan_chain(rng, wish.kinds, pristine_share=wish.pristine_share)
    damaged, applied = degrade(crop, steps, rng)
    stored = resize_and_crop(Image.fromarray(damaged), plan.size)
    record = {
        # The dot would end the key: WebDataset takes the rest of the name as the kind of file.
        "key": f"{name.replace('.', '_')}-{wish.variant:03d}",
        "photo": name,
        "cluster": photo.cluster,
        "split": wish.split.value,
        "label": None,
        "variant": wish.variant,
        "crop": [left, top, right, bottom],
        "capture_side": int(min(crop.shape[:2])),
        "degradations": [asdict(step) for step in applied],
    }
    if plan.labelled:
        distances = measure(stored, resize_and_crop(Image.fromarray(crop), plan.size))
        record["distances"] = {metric: round(value, 6) for metric, value in distances.items()}
        record["label"] = round(reference_label(distances), 6)
    return Entry(record=record, image=stored)
