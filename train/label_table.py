"""Pseudo-labels as rows: reading them, mapping them, choosing among them, keeping sets apart.

A label file holds one row an image, in the source's order::

    image,sha256,raw_score,mapped_score,spread,error

``raw_score`` is the teachers' mean, ``mapped_score`` the same after the logistic map (empty without
one), ``spread`` the standard deviation between teachers and views (empty where there is only one
score), ``error`` why there is no score.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.data.image_set import ImageSet, Split
from edgefiqa.errors import DataError, UsageError

__all__ = [
    "COLUMNS",
    "LABELS_NAME",
    "META_NAME",
    "PseudoLabel",
    "assert_disjoint",
    "keep_confident",
    "map_scores",
    "read_labels",
    "read_rows",
    "scores_of",
    "write_rows",
]

COLUMNS = ("image", "sha256", "raw_score", "mapped_score", "spread", "error")
LABELS_NAME, META_NAME = "labels.csv", "labels.meta.json"

_MAX_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class PseudoLabel:
    """One image's pseudo-label.

    Attributes:
        image: The photograph's path below its folder, or the key in its set.
        sha256: SHA-256 of the pixels that were scored (photographs) or are stored (sets); empty
            where the image could not be read.
        raw_score: Mean over teachers and views; None where there is an error.
        mapped_score: The same on the scale of the labels; None where no map was fitted.
        spread: Standard deviation over teachers and views; None where there is one score only.
        error: Why there is no score; empty where there is one.
    """

    image: str
    sha256: str = ""
    raw_score: float | None = None
    mapped_score: float | None = None
    spread: float | None = None
    error: str = ""

    @property
    def score(self) -> float | None:
        """The mapped score where there is one, else the raw score."""
        return self.raw_score if self.mapped_score is None else self.mapped_score


def _cell(value: float | str | None) -> str:
    # The shortest text that reads back as the same float32.
    return "" if value is None else value if isinstance(value, str) else str(np.float32(value))


def _number(text: str) -> float | None:
    return float(text) if text else None


def write_rows(rows: Iterable[PseudoLabel], *, header: bool = True) -> str:
    """Return rows as CSV text, the same bytes for the same rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in rows)
    return buffer.getvalue()


def read_rows(text: str) -> list[PseudoLabel]:
    """Read what `write_rows` wrote with a header.

    Raises:
        DataError: Another header, or a value that is no number.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise DataError(
            "not a file of pseudo-labels", value=reader.fieldnames, allowed=",".join(COLUMNS)
        )
    rows = []
    for line in reader:
        try:
            row = PseudoLabel(
                image=line["image"],
                sha256=line["sha256"],
                raw_score=_number(line["raw_score"]),
                mapped_score=_number(line["mapped_score"]),
                spread=_number(line["spread"]),
                error=line["error"],
            )
        except (ValueError, TypeError) as fault:
            what = f"line {reader.line_num} of the pseudo-labels is damaged ({fault})"
            raise DataError(what, value=line) from fault
        rows.append(row)
    return rows


def read_labels(out: Path) -> tuple[list[PseudoLabel], dict[str, Any]]:
    """Read finished pseudo-labels.

    Args:
        out: The folder that `label_images` wrote.

    Returns:
        One row an image, and the meta file.

    Raises:
        DataError: The labels are unfinished or damaged.
    """
    if not (out / META_NAME).is_file():
        raise DataError(
            "no finished pseudo-labels", value=out, next_step="run the same edgefiqa label again"
        )
    meta: dict[str, Any] = json.loads((out / META_NAME).read_text(encoding="utf-8"))
    return read_rows((out / LABELS_NAME).read_text(encoding="utf-8")), meta


def scores_of(rows: Sequence[PseudoLabel]) -> NDArray[np.float32]:
    """Return the scores to train on ``[N]``: mapped where there is a map, NaN where none."""
    return np.array([np.nan if row.score is None else row.score for row in rows], np.float32)


def map_scores(
    rows: Iterable[PseudoLabel], mapping: Callable[[Any], NDArray[np.float64]]
) -> list[PseudoLabel]:
    """Return the rows with ``mapped_score`` filled from ``raw_score``.

    Args:
        rows: The rows.
        mapping: Parameters of the map from raw scores to labels, see
            `edgefiqa.metrics.fit_logistic`.
    """
    return [
        row if row.raw_score is None else replace(row, mapped_score=float(mapping(row.raw_score)))
        for row in rows
    ]


def keep_confident(
    rows: Sequence[PseudoLabel], *, share: float | None = None, max_spread: float | None = None
) -> list[int]:
    """Choose the rows whose teachers (or views) agree best.

    Args:
        rows: The rows; those with an error are never chosen.
        share: Keep this share (above 0, up to 1) of the scored rows, those with the least spread;
            of equal spreads the first.
        max_spread: Keep rows whose spread is at most this.

    Returns:
        Indices of the chosen rows, ascending; of all scored rows if neither limit is given.

    Raises:
        UsageError: A limit is out of range, or the rows have no spread to choose by.
    """
    scored = [i for i, row in enumerate(rows) if row.raw_score is not None]
    if share is None and max_spread is None:
        return scored
    if (share is not None and not 0 < share <= 1) or (max_spread is not None and max_spread < 0):
        what, value = "the filter is out of range", f"share {share}, largest spread {max_spread}"
        raise UsageError(what, value=value, allowed="0 < share ≤ 1, spread ≥ 0")
    spreads = {i: rows[i].spread for i in scored}
    known = {i: spread for i, spread in spreads.items() if spread is not None}
    if len(known) != len(scored):
        raise UsageError(
            "these labels have no spread to filter by",
            next_step="label with two teachers or more, or with two views",
        )
    chosen = [i for i in scored if max_spread is None or known[i] <= max_spread]
    if share is not None:
        best = sorted(scored, key=lambda i: (known[i], i))[: max(1, round(share * len(scored)))]
        chosen = sorted(set(chosen) & set(best))
    return chosen


def _shared(
    first: Mapping[Any, str], second: Mapping[Any, str], names: tuple[str, str], what: str
) -> None:
    """Refuse values that both mappings (value → image) hold."""
    common = [value for value in first if value in second]
    if not common:
        return
    examples = [f"{first[v]} ({names[0]}) and {second[v]} ({names[1]})" for v in common]
    more = f" and {len(common) - _MAX_NAMED} more" if len(common) > _MAX_NAMED else ""
    raise DataError(
        f"{what}: {names[0]} and {names[1]}",
        value="; ".join(examples[:_MAX_NAMED]) + more,
        allowed="sets that share no image, and no photograph with the held-back images",
        next_step="leave the named images out of one of the sets and build it again",
    )


def _held_back(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for record in records if record.get("split", Split.TRAIN) != Split.TRAIN]


def _by(records: Iterable[Mapping[str, Any]], field: str) -> dict[Any, str]:
    known = ((record.get(field), str(record.get("key", "?"))) for record in records)
    return {value: key for value, key in known if value not in (None, "")}


def _comparable(first: ImageSet, second: ImageSet) -> tuple[str, ...]:
    """Return the fields whose equal values mean the same photographs in both sets."""
    packed = [images.meta.get("photos_sha256") for images in (first, second)]
    facts = ("source", "photos", "photos_sha256", "clusters", "duplicate_bits")
    same = all(first.meta.get(fact) == second.meta.get(fact) for fact in facts)
    if all(packed):
        return ("photo", "cluster") if same else ()
    return ("photo", "cluster") if same else ("photo",)


def assert_disjoint(
    labelled: ImageSet, unlabelled: Mapping[str, ImageSet], *, same_photos: bool = True
) -> None:
    """Refuse sets for self-training that would let test images, or one image twice, into training.

    No two sets may hold the same pixels. No unlabelled set may hold another version of a held-back
    photograph: one of the same photograph name or, where both know them, of the same cluster of
    near duplicates. Versions of photographs of the labelled *training* split are allowed.

    Args:
        labelled: The set with labels and held-back splits.
        unlabelled: Further sets, by the name that messages give them.
        same_photos: Compare names of photographs (unless both sets were packed: an equal
            photograph then has equal pixels, and equal names mean nothing) and numbers of clusters
            (where both sets were made from the same photographs). Otherwise only pixels.

    Raises:
        DataError: The first offenders are named.
    """
    sets = {"the labelled set": labelled, **unlabelled}
    names = list(sets)
    pixels = {name: _by(images.records, "sha256") for name, images in sets.items()}
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            pair = (name, other)
            _shared(pixels[name], pixels[other], pair, "two sets hold the same pixels")
    held_back = _held_back(labelled.records)
    for name, images in unlabelled.items():
        pair = ("the held-back images", name)
        for field in _comparable(labelled, images) if same_photos else ():
            what = f"a set holds a {field} that is held back"
            _shared(_by(held_back, field), _by(images.records, field), pair, what)
