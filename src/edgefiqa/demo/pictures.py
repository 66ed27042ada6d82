"""A few pictures that people can judge for themselves, with the score of every file."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydantic import BaseModel, ConfigDict, ValidationError

from edgefiqa.errors import EdgeFiqaError, ImageError
from edgefiqa.files import sha256_of, staged_path, write_text
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.markdown import Table
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import open_photo, to_rgb
from edgefiqa.runtimes import Format, runtime_for

__all__ = [
    "Column",
    "Pictures",
    "Scored",
    "pictures_table",
    "score_pictures",
    "write_pictures",
    "write_sheet",
]

_FACES_SHOWN = 4
_SHORT_SIDE = 512
_THUMB = 180
_SCORES_NAME = "pictures.json"

Pictures = dict[Path, tuple[str, str]]
"""Picture file → (photograph, what was done to it)."""


class Column(BaseModel):
    """The scores of one file.

    Attributes:
        title: The target that made it, and what evaluated it where that is not its runtime.
        sha256: SHA-256 of what was executed.
        scores: One a picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    sha256: str
    scores: list[float]


class Scored(BaseModel):
    """Pictures and what every file scores them, as kept in ``pictures.json``.

    Attributes:
        pictures: Path in the demo's folder → sha256.
        columns: The float model first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: dict[str, str]
    columns: list[Column]


def _copies(photo: Image.Image) -> dict[str, tuple[Image.Image, str]]:
    """Return the photograph and damaged copies: name → (image, file ending)."""
    pixels = np.asarray(photo, np.float64)
    noise = np.random.default_rng(0).normal(0, 30, pixels.shape)
    noisy = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    return {
        "original": (photo, ".png"),
        "blur, 2 px": (photo.filter(ImageFilter.GaussianBlur(2)), ".png"),
        "blur, 6 px": (photo.filter(ImageFilter.GaussianBlur(6)), ".png"),
        "noise, sigma 30": (noisy, ".png"),
        "JPEG, quality 8": (photo, ".jpg"),
        "dark, 15 %": (photo.point(lambda value: int(value * 0.15)), ".png"),
    }


def write_pictures(directory: Path, faces: Path | None) -> Pictures:
    """Write scikit-image's astronaut, up to four photographs of a folder, and damaged copies.

    Args:
        directory: Where to write.
        faces: Folder of photographs, or None.
    """
    from edgefiqa.convert import astronaut

    photos = {"astronaut": astronaut()}
    if faces is not None:
        photos |= _own_photos(faces)
    directory.mkdir(parents=True, exist_ok=True)
    written = {}
    for stem, photo in photos.items():
        for index, (name, (image, suffix)) in enumerate(_copies(photo).items()):
            path = directory / f"{stem}_{index}{suffix}"
            image.save(path, quality=8)  # PNG ignores it
            written[path] = (stem, name)
    return written


def _own_photos(folder: Path) -> dict[str, Image.Image]:
    """Open the first photographs of a folder that can be read, shrunk."""
    photos: dict[str, Image.Image] = {}
    for path in find_photos([folder]):
        try:
            photo = to_rgb(open_photo(path), name=str(path))
        except ImageError:
            continue
        scale = _SHORT_SIDE / min(photo.size)
        if scale < 1:
            photo = photo.resize((int(photo.width * scale), int(photo.height * scale)))
        photos[path.stem] = photo
        if len(photos) == _FACES_SHOWN:
            break
    return photos


def _score(model: str, pictures: list[Path]) -> list[float]:
    """Score as a user would: with the command, in a process that has one runtime only."""
    command = [sys.executable, "-m", "edgefiqa", "score", "--json", "--model", model]
    done = subprocess.run(
        [*command, *map(str, pictures)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EdgeFiqaError("scoring failed", value=model, next_step=done.stderr.strip()[-500:])
    return [float(row["score"]) for row in json.loads(done.stdout)]


def _can_score(artifact: Artifact) -> bool:
    """Tell whether the runtime that ``edgefiqa score`` takes has executed the file here."""
    default = runtime_for(Format(artifact.format)).name
    return bool(artifact.parity) and default not in {
        missing.runtime for missing in artifact.not_executed
    }


def _title(artifact: Artifact) -> str:
    """Name a column: the target, the precision, and what stands in for the format's runtime."""
    title = f"{artifact.target} {artifact.precision}"
    if runtime_for(Format(artifact.format)).name != "mil-reference":
        return title
    return f"{title}, MIL reference evaluator"


def score_pictures(
    source: str,
    export: Path,
    pictures: Pictures,
    out: Path,
    *,
    say: Callable[[str], None] = lambda _text: None,
) -> tuple[Scored, bool]:
    """Score pictures with torch and with every exported file that can be executed here.

    Args:
        source: The float weights.
        export: Directory of the files.
        pictures: What is scored.
        out: The demo's folder; ``pictures.json`` there is kept if it is of the same bytes.
        say: Told each file.

    Returns:
        The scores, and whether there was anything to do.
    """
    manifest = Manifest.load(export)
    models = {"torch": (source, str(manifest.card["sha256"]))}
    for artifact in filter(_can_score, manifest.artifacts):
        models[_title(artifact)] = (str(export / artifact.file), artifact.sha256)
    hashes = {path.relative_to(out).as_posix(): sha256_of(path) for path in pictures}
    known = _known(out / _SCORES_NAME, hashes)
    columns, done = [], False
    for title, (model, digest) in models.items():
        column = known.get((title, digest))
        if column is None:
            say(f"    {title}")
            column = Column(title=title, sha256=digest, scores=_score(model, list(pictures)))
            done = True
        columns.append(column)
    scored = Scored(pictures=hashes, columns=columns)
    write_text(out / _SCORES_NAME, scored.model_dump_json(indent=1) + "\n")
    return scored, done


def _known(path: Path, hashes: dict[str, str]) -> dict[tuple[str, str], Column]:
    try:
        scored = Scored.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
    same = scored.pictures == hashes
    return {(column.title, column.sha256): column for column in scored.columns} if same else {}


def write_sheet(pictures: Pictures, scores: list[float], path: Path) -> None:
    """Write one picture of all photographs: a row each, its copies side by side with scores."""
    rows: dict[str, list[tuple[Path, str, float]]] = {}
    for (file, (stem, name)), score in zip(pictures.items(), scores, strict=True):
        rows.setdefault(stem, []).append((file, name, score))
    gap, caption = 8, 44
    columns = max(len(row) for row in rows.values())
    width = columns * (_THUMB + gap) + gap
    sheet = Image.new("RGB", (width, len(rows) * (_THUMB + caption + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    big, small = ImageFont.load_default(22), ImageFont.load_default(14)
    for line, row in enumerate(rows.values()):
        for column, (file, name, score) in enumerate(row):
            x, y = gap + column * (_THUMB + gap), gap + line * (_THUMB + caption + gap)
            with Image.open(file) as image:
                side = min(image.size)
                left, top = (image.width - side) // 2, (image.height - side) // 2
                square = image.convert("RGB").crop((left, top, left + side, top + side))
            sheet.paste(square.resize((_THUMB, _THUMB), Image.Resampling.LANCZOS), (x, y))
            draw.text((x, y + _THUMB + 4), f"{score:.2f}", "black", font=big)
            draw.text((x + 56, y + _THUMB + 10), name, "dimgray", font=small)
    with staged_path(path) as stage:
        sheet.save(stage, optimize=True)


def pictures_table(pictures: Pictures, scored: Scored, out: Path) -> str:
    """Return the scores of all pictures as a Markdown table that links to them."""
    rows = []
    for index, (path, (stem, name)) in enumerate(pictures.items()):
        values = [f"{column.scores[index]:.4f}" for column in scored.columns]
        where = path.relative_to(out).as_posix()
        rows.append([f"[{stem}, {name}]({where})", *values])
    heads = ["picture", *(column.title for column in scored.columns)]
    return Table(heads=heads, rows=rows).markdown()
