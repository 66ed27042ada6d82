"""Label files: which photo has which score, in the layouts that public face data sets come in.

::

    file ──read_labels(layout or by its content)──▶ LabelFile: rows, and the rows that hold no score

A score that is no finite number never becomes a label: such rows are kept apart with their line
numbers, so that a check can name all of them at once.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from edgefiqa.errors import RecipeError, UnknownNameError
from edgefiqa.photo_files import IMAGE_SUFFIXES

__all__ = [
    "LAYOUTS",
    "LabelFault",
    "LabelFile",
    "LabelLayout",
    "LabelRow",
    "Layout",
    "find_label_file",
    "read_labels",
]


class LabelLayout(StrEnum):
    """How a label file is laid out."""

    VQUALA = "vquala"
    GFIQA20K = "gfiqa20k"
    CGFIQA40K = "cgfiqa40k"
    PIQ23 = "piq23"
    CSV = "csv"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a layout's columns are called and what its scores mean.

    Attributes:
        images: Accepted names of the image column in lower case, best first; empty: no header.
        scores: Accepted names of the score column, likewise.
        score_range: Lowest and highest possible score; none where the scale is open.
        form: The layout in one clause, for messages.
    """

    images: tuple[str, ...]
    scores: tuple[str, ...]
    score_range: tuple[float, float] | None
    form: str


_UNIT = (0.0, 1.0)

LAYOUTS: Mapping[LabelLayout, Layout] = MappingProxyType(
    {
        # The challenge's train.csv, as its winner's public code reads it.
        LabelLayout.VQUALA: Layout(
            images=(), scores=(), score_range=_UNIT, form="no header, image_name,score"
        ),
        # mos_val_rating.csv, as public loaders of the database read it; scores are 0..1.
        LabelLayout.GFIQA20K: Layout(
            images=("img_name",),
            scores=("mos",),
            score_range=_UNIT,
            form="CSV with the columns img_name, mos",
        ),
        # train/label.json and its like, as the authors' loader (DSL-FIQA) reads them. The
        # loader stretches by the extremes found; no bound is published, so none is assumed.
        LabelLayout.CGFIQA40K: Layout(
            images=("image",),
            scores=("mos",),
            score_range=None,
            form='JSON with the equally long lists "Image" and "MOS"',
        ),
        # Scores_{Overall,Details,Exposure}.csv of DXOMARK-Research/PIQ2023. The score is in just
        # objectionable differences, comparable within a scene and without bounds.
        LabelLayout.PIQ23: Layout(
            images=("image path",),
            scores=("jod",),
            score_range=None,
            form="CSV with the columns IMAGE PATH, JOD",
        ),
        # This project's: what people write by hand, and what `edgefiqa label` writes.
        LabelLayout.CSV: Layout(
            images=(
                "image",
                "image_name",
                "image_path",
                "img_name",
                "img_path",
                "filename",
                "file_name",
                "file",
                "path",
                "name",
            ),
            scores=("score", "mos", "label", "quality", "mapped_score", "mean_score", "rating"),
            score_range=_UNIT,
            form="CSV with a header that holds image and score (also filename, mos, …)",
        ),
    }
)

_HEADED = (LabelLayout.PIQ23, LabelLayout.GFIQA20K, LabelLayout.CSV)  # most particular first
_DELIMITERS = ",;\t|"
_LABEL_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".json"})


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One labelled image.

    Attributes:
        image: Its name or relative path, with forward slashes.
        score: Its label, finite, on the file's scale.
        line: Where the row begins, from 1; in JSON the entry's number.
    """

    image: str
    score: float
    line: int


@dataclass(frozen=True, kw_only=True)
class LabelFault:
    """A row without a usable score or name.

    Attributes:
        image: The image it names, perhaps empty.
        line: Where the row begins, from 1; in JSON the entry's number.
        found: What stands there instead.
    """

    image: str
    line: int
    found: str


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A label file that was read.

    Attributes:
        path: The file.
        layout: Its layout, named or recognised.
        score_range: The layout's lowest and highest score, none where the scale is open.
        rows: The labels, in the file's order, repeats included.
        faults: Rows that hold no label.
    """

    path: Path
    layout: LabelLayout
    score_range: tuple[float, float] | None
    rows: tuple[LabelRow, ...]
    faults: tuple[LabelFault, ...]


_Cells = tuple[int, Sequence[object]]  # line, cells


def read_labels(path: Path, layout: str | None = None) -> LabelFile:
    """Read a label file.

    Args:
        path: The file: UTF-8 with or without byte order mark, or UTF-16 with one; any line ends;
            columns separated by comma, semicolon, tab or bar.
        layout: A name in `LabelLayout`; recognised by the content unless given.

    Returns:
        Rows and faults. Scores are not compared with the layout's range here.

    Raises:
        UnknownNameError: There is no such layout.
        RecipeError: The file cannot be read, is empty or is laid out in another way.
    """
    wanted = None if layout is None else _layout(layout)
    text = _read_text(path)
    if _is_json(text):
        found, entries = LabelLayout.CGFIQA40K, _json_entries(path, text)
        if wanted not in (None, found):
            raise _wrong(path, 1, "a JSON object", wanted, found)
    else:
        found, entries = _csv_entries(path, text, wanted)
    rows, faults = _sort_out(entries, found)
    if not rows and not faults:
        raise RecipeError("the label file holds no rows", value=path, allowed="one row or more")
    return LabelFile(
        path=path,
        layout=found,
        score_range=LAYOUTS[found].score_range,
        rows=tuple(rows),
        faults=tuple(faults),
    )


def find_label_file(folder: Path) -> Path:
    """Find the one label file that lies in a folder beside or above its photos.

    Args:
        folder: Where to look; folders in it are not searched.

    Returns:
        The only file there that some layout fits.

    Raises:
        RecipeError: There is none, or more than one.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _LABEL_SUFFIXES and path.is_file():
            try:
                read_labels(path)
            except RecipeError:
                continue
            found.append(path)
    if len(found) != 1:
        what = "several label files in this folder" if found else "no label file in this folder"
        names = ": " + ", ".join(path.name for path in found) if found else ""
        next_step = f"name it with --labels{names}, or say --unlabelled"
        raise RecipeError(what, value=folder, allowed=_forms(), next_step=next_step)
    return found[0]


def _layout(name: str) -> LabelLayout:
    try:
        return LabelLayout(name)
    except ValueError as fault:
        known = ", ".join(LabelLayout)
        raise UnknownNameError("unknown label layout", value=repr(name), allowed=known) from fault


def _forms() -> str:
    return "; ".join(f"{name}: {layout.form}" for name, layout in LAYOUTS.items())


def _wrong(
    path: Path, line: int, found: str, wanted: LabelLayout | None, fits: LabelLayout | None = None
) -> RecipeError:
    what = f"the label file is not laid out as {wanted}" if wanted else "unknown label layout"
    next_step = f"this looks like {fits}: --layout {fits}" if fits else "name it with --layout"
    where = f"{path}, line {line}: {found}"
    return RecipeError(what, value=where, allowed=_forms(), next_step=next_step)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if wide else "utf-8-sig")
    except OSError as fault:
        what = f"the label file cannot be read ({fault.strerror})"
        raise RecipeError(what, value=path, next_step="check the path") from fault
    except UnicodeDecodeError as fault:
        what = f"the label file is no text in UTF-8 ({fault.reason} at byte {fault.start})"
        raise RecipeError(what, value=path, next_step="save it as UTF-8") from fault


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))


def _json_entries(path: Path, text: str) -> list[_Cells]:
    """Read lists under the layout's two keys; the entry's number stands in for a line."""
    layout = LAYOUTS[LabelLayout.CGFIQA40K]
    try:
        values = json.loads(text)
    except ValueError as fault:
        what = f"the label file is damaged JSON ({fault})"
        raise RecipeError(what, value=path, allowed=layout.form) from fault
    keys = {str(key).lower(): value for key, value in values.items()} if _is_map(values) else {}
    images, scores = keys.get(layout.images[0]), keys.get(layout.scores[0])
    if not isinstance(images, list) or not isinstance(scores, list):
        names = ", ".join(map(str, values)) if _is_map(values) else type(values).__name__
        raise _wrong(path, 1, f"JSON that holds {names}"[:200], LabelLayout.CGFIQA40K)
    if len(images) != len(scores):
        found = f"{len(images)} images, {len(scores)} scores"
        raise _wrong(path, 1, found, LabelLayout.CGFIQA40K)
    return [(n, pair) for n, pair in enumerate(zip(images, scores, strict=True), start=1)]


def _is_map(values: object) -> bool:
    return isinstance(values, dict)


def _csv_entries(
    path: Path, text: str, wanted: LabelLayout | None
) -> tuple[LabelLayout, list[_Cells]]:
    try:
        records = list(_records(text))
    except csv.Error as fault:
        raise RecipeError(f"the label file is damaged CSV ({fault})", value=path) from fault
    if not records:
        raise RecipeError("the label file is empty", value=path, allowed=_forms())
    line, first = records[0]
    fits = _recognise(first)
    if fits is None or wanted not in (None, fits):
        columns = None if wanted is None else _columns(first, wanted)
        if wanted is None or columns is None:
            raise _wrong(path, line, f"found {', '.join(first)}"[:200], wanted, fits)
        fits = wanted
    if fits is LabelLayout.VQUALA:
        return fits, [(n, cells if len(cells) == 2 else ("", cells)) for n, cells in records]
    columns = _columns(first, fits) or (0, 0)
    return fits, [(n, _pick(cells, columns)) for n, cells in records[1:]]


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Give each record that is not blank, with the line it begins on."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=head.count)  # the comma where none occurs
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    begin = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield begin, [cell.strip() for cell in cells]
        begin = reader.line_num + 1


def _recognise(first: Sequence[str]) -> LabelLayout | None:
    for layout in _HEADED:
        if _columns(first, layout):
            return layout
    if len(first) == 2 and first[0] and _number(first[1]) is not None:
        return LabelLayout.VQUALA
    return None


def _columns(first: Sequence[str], name: LabelLayout) -> tuple[int, int] | None:
    """Return where a header has the image and the score of a layout, if it has both."""
    header, layout = [cell.lower() for cell in first], LAYOUTS[name]
    image = next((header.index(alias) for alias in layout.images if alias in header), None)
    score = next((header.index(alias) for alias in layout.scores if alias in header), None)
    # JSON has the same two names, but is no table.
    if image is None or score is None or name is LabelLayout.CGFIQA40K:
        return None
    return image, score


def _pick(cells: Sequence[str], columns: tuple[int, int]) -> Sequence[object]:
    image, score = columns
    name = cells[image] if image < len(cells) else ""
    return name, cells[score] if score < len(cells) else f"only {len(cells)} columns"


def _number(value: object) -> float | None:
    """Return what a cell says as a number, perhaps not a finite one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and "_" in value:  # Python reads 1_0 as ten
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _sort_out(
    entries: Sequence[_Cells], layout: LabelLayout
) -> tuple[list[LabelRow], list[LabelFault]]:
    rows, faults = [], []
    for line, (name, value) in entries:
        image = _image(name, layout)
        score = _number(value)
        if not image or score is None or not math.isfinite(score):
            found = "no image name" if not image and score is not None else repr(value)[:80]
            faults.append(LabelFault(image=image, line=line, found=found))
        else:
            rows.append(LabelRow(image=image, score=score, line=line))
    return rows, faults


def _image(name: object, layout: LabelLayout) -> str:
    """Bring a name to one form: forward slashes, and in VQualA's layout a suffix."""
    image = name.replace("\\", "/").removeprefix("./") if isinstance(name, str) else ""
    if image and layout is LabelLayout.VQUALA and _suffix(image) not in IMAGE_SUFFIXES:
        image += ".png"
    return image


def _suffix(image: str) -> str:
    return Path(image).suffix.lower()
