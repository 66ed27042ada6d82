"""Small image sets for tests."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edgefiqa.data.image_set import Entry, ImageSet, build_image_set


def make_set(
    out: Path,
    images: Sequence[np.ndarray],
    *,
    labels: Sequence[float | None],
    splits: Sequence[str] | None = None,
    per_shard: int = 16,
    first: int = 0,
) -> ImageSet:
    """Write an image set, each image a photo and a cluster, counted from `first`."""
    entries = [
        Entry(
            record={
                "key": f"image-{first + row:04d}",
                "photo": f"{first + row}.png",
                "cluster": first + row,
                "split": splits[row] if splits else "train",
                "label": label,
            },
            image=image,
        )
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    jobs = [entries[i : i + per_shard] for i in range(0, len(entries), per_shard)]
    size = min(images[0].shape[:2])
    plan = {"size": size, "label": "brightness", "source": "a test", "count": len(entries)}
    return build_image_set(out, plan=plan, jobs=jobs, make=_same, workers=0, title="test")


def _same(entries: list[Entry]) -> Iterable[Entry]:
    return entries


def bright_images(count: int, *, side: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 ``[N,S,S,3]`` noise and labels: the brighter the better, so it is learned."""
    rng = np.random.default_rng(seed)
    labels = rng.random(count)
    noise = rng.integers(0, 100, (count, side, side, 3))
    return (noise + 155 * labels[:, None, None, None]).astype(np.uint8), labels


def bright_set(out: Path, *, train: int = 24, held: int = 8, side: int = 64) -> ImageSet:
    """Write a set with all three splits whose labels are the brightness."""
    images, labels = bright_images(train + 2 * held, side=side)
    splits = ["train"] * train + ["held_back"] * held + ["held_out_types"] * held
    return make_set(out, list(images), labels=[float(v) for v in labels], splits=splits)


def unlabelled_set(out: Path, *, count: int, seed: int, side: int = 64) -> ImageSet:
    """Write a set without labels that shares nothing with `bright_set` or another seed's."""
    images, _ = bright_images(count, side=side, seed=seed)
    return make_set(out, list(images), labels=[None] * count, first=1000 * seed)
