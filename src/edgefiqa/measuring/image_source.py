"""The images that scorers are compared on: an image set or photographs, behind one face.

Every scorer gets the same pixels by the one rule of `edgefiqa.preprocess`, and every process that
opens a source can prove by its identity that it is the same one.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgefiqa.data.image_set import ImageSet, Split, is_image_set, open_image_set
from edgefiqa.data.label_files import read_labels
from edgefiqa.errors import DataError, ImageError
from edgefiqa.files import sha256_of
from edgefiqa.measuring.records import ImageFacts, ImagesIdentity, ImagesRecord
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import open_photo, resize_and_crop, to_rgb

__all__ = ["ImageSource", "SourceSpec", "describe_images", "measure_pixels", "open_source"]

Rgb = NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's mode L


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Which images; small and picklable, so that each process opens them itself.

    Attributes:
        path: An image set, a folder of photographs or one photograph.
        labels: Label file of photographs.
        columns: CSV whose first column is the image and whose others are the user's.
        splits: Splits of an image set; empty takes those that were held back, else all.
        limit: At most so many, evenly spaced.
    """

    path: Path
    labels: Path | None = None
    columns: Path | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Item:
    key: str
    photo: str
    cluster: str
    digest: str
    label: float | None
    kinds: tuple[str, ...]
    short_side: int | None
    row: int | None = None
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images that are ready to be scored.

    Attributes:
        spec: What was asked for.
        identity: sha256 over the keys and contents, in order.
        label: What the labels mean; None where there are none.
    """

    spec: SourceSpec
    identity: str
    label: str | None
    _items: Sequence[_Item]
    _set: ImageSet | None
    _columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def keys(self) -> list[str]:
        """Unique names of the images, in order."""
        return [item.key for item in self._items]

    @property
    def clusters(self) -> list[str]:
        """The cluster of each image; images of one are not independent."""
        return [item.cluster for item in self._items]

    @property
    def labels(self) -> NDArray[np.float64]:
        """The labels, float64 ``[n]``; nan where an image has none."""
        return np.array([np.nan if i.label is None else i.label for i in self._items], np.float64)

    def photo(self, row: int) -> Image.Image:
        """Return one image, upright and RGB, at its full size.

        Raises:
            ImageError: It cannot be read.
        """
        item = self._items[row]
        if self._set is not None and item.row is not None:
            return Image.fromarray(self._set.image(item.row))
        assert item.file is not None
        return to_rgb(open_photo(item.file), name=item.key)

    def tensor(self, row: int, size: int) -> Rgb:
        """Return one image as scorers take it: uint8 RGB ``[1,S,S,3]``.

        Raises:
            ImageError: It cannot be read.
        """
        return resize_and_crop(self.photo(row), size, name=self._items[row].key)[np.newaxis]

    def facts(self, row: int, size: int) -> ImageFacts:
        """Measure one image: its size before any scaling, luminance and sharpness."""
        item = self._items[row]
        known = ImageFacts(
            key=item.key,
            photo=item.photo,
            cluster=item.cluster,
            label=item.label,
            kinds=item.kinds,
            columns=dict(self._columns.get(item.key, {})),
        )
        try:
            photo = self.photo(row)
            luminance, sharpness = measure_pixels(resize_and_crop(photo, size))
        except ImageError as error:
            return known.model_copy(update={"error": str(error)})
        measured = {"luminance": luminance, "sharpness": sharpness}
        measured["short_side"] = item.short_side or min(photo.size)
        return known.model_copy(update=measured)


def measure_pixels(image: Rgb) -> tuple[float, float]:
    """Measure an image's brightness and sharpness.

    Args:
        image: uint8 RGB ``[H,W,3]``.

    Returns:
        Mean BT.601 luma, 0..255, and the variance of its Laplacian (4-neighbour kernel, inside).
    """
    luma = image.astype(np.float64) @ _LUMA
    ring = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(luma.mean()), float((ring - 4 * luma[1:-1, 1:-1]).var())


def open_source(spec: SourceSpec) -> ImageSource:
    """Open the images.

    Args:
        spec: Which.

    Returns:
        The source.

    Raises:
        DataError: There is no image, or a label or column names none of them.
    """
    images = open_image_set(spec.path) if is_image_set(spec.path) else None
    items = _set_items(images, spec) if images else _photo_items(spec)
    if spec.limit is not None and spec.limit < len(items):
        places = np.linspace(0, len(items) - 1, spec.limit).round().astype(int)
        items = [items[place] for place in places]
    if not items:
        raise DataError("no image to score", value=spec.path, next_step="choose other splits")
    lines = "".join(f"{item.digest}  {item.key}\n" for item in items)
    label: str | None = None
    if any(item.label is not None for item in items):
        label = str(images.meta.get("label") or "label") if images else "label file"
    return ImageSource(
        spec=spec,
        identity=hashlib.sha256(lines.encode()).hexdigest(),
        label=label,
        _items=items,
        _set=images,
        _columns=_read_columns(spec.columns, items) if spec.columns else {},
    )


def _set_items(images: ImageSet, spec: SourceSpec) -> list[_Item]:
    tested = (Split.HELD_BACK.value, Split.HELD_OUT_TYPES.value)
    splits = spec.splits or (tested if np.isin(images.splits, tested).any() else ())
    items = []
    for row, record in enumerate(images.records):
        if splits and record["split"] not in splits:
            continue
        cluster = record["cluster"]
        label = record["label"]
        items.append(
            _Item(
                key=record["key"],
                photo=str(record["photo"]),
                cluster=f"photo {record['photo']}" if cluster is None else str(cluster),
                digest=record["sha256"],
                label=None if label is None else float(label),
                kinds=tuple(dict.fromkeys(step["name"] for step in record.get("degradations", ()))),
                # Of the photograph before it was packed, where that is known.
                short_side=record.get("capture_side") or min(record["height"], record["width"]),
                row=row,
            )
        )
    return items


def _photo_items(spec: SourceSpec) -> list[_Item]:
    files = find_photos([spec.path])
    root = spec.path if spec.path.is_dir() else spec.path.parent
    keys = [file.relative_to(root).as_posix() for file in files]
    labels: dict[str, float] = {}
    if spec.labels:
        rows = read_labels(spec.labels).rows
        labels = _match({row.image: row.score for row in rows}, keys, spec.labels)
    return [
        _Item(
            key=key,
            photo=key,
            cluster=key,
            digest=sha256_of(file) if file.is_file() else hashlib.sha256(b"").hexdigest(),
            label=labels.get(key),
            kinds=(),
            short_side=None,
            file=file,
        )
        for key, file in zip(keys, files, strict=True)
    ]


def _match(values: Mapping[str, float], keys: Sequence[str], path: Path) -> dict[str, float]:
    """Find each key's value: by its relative path, its name, or its name without the ending."""
    found = {}
    for key in keys:
        names = (key, Path(key).name, str(Path(key).with_suffix("")), Path(key).stem)
        value = next((values[name] for name in names if name in values), None)
        if value is not None:
            found[key] = value
    if not found:
        named = ", ".join(list(values)[:3])
        raise DataError(f"{path} names none of the images", value=named, allowed=keys[0])
    return found


def _read_columns(path: Path, items: Sequence[_Item]) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or len(rows[0]) < 2:
        what = "no columns to slice by"
        raise DataError(what, value=path, allowed="CSV with a header: the image, then columns")
    first = next(iter(rows[0]))
    by_name = {row[first]: {k: v for k, v in row.items() if k and k != first} for row in rows}
    found = {}
    for item in items:
        names = (item.key, item.photo, Path(item.key).name, Path(item.key).stem)
        score = next((by_name[name] for name in names if name in by_name), None)
        if score is not None:
            found[item.key] = {name: value for name, value in score.items() if value}
    if not found:
        raise DataError("the columns name none of the images", value=path, allowed=items[0].key)
    return found


def describe_images(source: ImageSource, size: int) -> ImagesRecord:
    """Measure all images once, for slices.

    Args:
        source: The images.
        size: Side of the square that is scored, in pixels.

    Returns:
        The record that all scores refer to.
    """
    spec = source.spec
    name = spec.path.name or str(spec.path)
    words = "image set" if is_image_set(spec.path) else "photographs"
    words += f", splits {', '.join(spec.splits)}" if spec.splits else ""
    return ImagesRecord(
        identity=ImagesIdentity(name=name, sha256=source.identity, count=len(source), size=size),
        source=f"{words} {name}",
        label=source.label,
        images=tuple(source.facts(row, size) for row in range(len(source))),
    )
