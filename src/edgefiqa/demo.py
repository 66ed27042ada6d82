"""The whole way in one command: a real photograph through every format, and a report."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import staged_path, write_text
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import open_photo, to_rgb
from edgefiqa.runtimes import Format, runtime_for
from edgefiqa.tables import parity_table

__all__ = ["run", "score_all", "write_pictures", "write_report"]

_TARGETS = "onnx,tflite,tflite-tf,executorch,coreml"
_FACES_SHOWN = 4
_SHORT_SIDE = 512
_THUMB = 180

Pictures = dict[Path, tuple[str, str]]
"""Picture file → (photograph, what was done to it)."""


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
    from edgefiqa.convert.photos import astronaut

    photos = {"astronaut": astronaut()}
    if faces is not None:
        for path in find_photos([faces])[:_FACES_SHOWN]:
            photo = to_rgb(open_photo(path), name=str(path))
            scale = _SHORT_SIDE / min(photo.size)
            if scale < 1:
                photo = photo.resize((int(photo.width * scale), int(photo.height * scale)))
            photos[path.stem] = photo
    directory.mkdir(parents=True, exist_ok=True)
    written = {}
    for stem, photo in photos.items():
        for index, (name, (image, suffix)) in enumerate(_copies(photo).items()):
            path = directory / f"{stem}_{index}{suffix}"
            image.save(path, quality=8)  # PNG ignores it
            written[path] = (stem, name)
    return written


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
    return bool(artifact.parity) and default not in {own.runtime for own in artifact.not_executed}


def _title(artifact: Artifact) -> str:
    """Name a column: the target, and what evaluated it where that is not the format's own."""
    if runtime_for(Format(artifact.format)).name != "mil-reference":
        return artifact.target
    return f"{artifact.target} {artifact.precision}, MIL reference evaluator"


def score_all(
    manifest: Manifest,
    export: Path,
    pictures: list[Path],
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, list[float]]:
    """Score pictures with torch and with every exported file that can be executed here.

    Returns:
        Title of a column → one score a picture.
    """
    models = {"torch": "default"}
    models |= {_title(a): str(export / a.file) for a in manifest.artifacts if _can_score(a)}
    scores = {}
    for title, model in models.items():
        say(f"    {title}")
        scores[title] = _score(model, pictures)
    return scores


def _write_sheet(pictures: Pictures, scores: list[float], path: Path) -> None:
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


def write_report(
    manifest: Manifest, pictures: Pictures, scores: dict[str, list[float]], out: Path
) -> Path:
    """Write ``report.md`` and ``scores.png``.

    Args:
        manifest: Of the export.
        pictures: What was scored.
        scores: Of ``score_all``.
        out: Directory that holds the pictures.
    """
    _write_sheet(pictures, scores["torch"], out / "scores.png")
    card = manifest.card
    lines = [
        "# edgefiqa demo",
        "",
        f"Model: **{card['name']}** ({card['model']}, {manifest.contract['size']} px, sha256 "
        f"`{card['sha256'][:12]}`). {card['description']}",
        "",
        "## Every file against torch",
        "",
        parity_table(manifest),
        "",
        "## Scores (higher is better)",
        "",
        "![the pictures with torch's scores](scores.png)",
        "",
        f"| picture | {' | '.join(scores)} |",
        f"|---|{'---|' * len(scores)}",
    ]
    for index, (path, (stem, name)) in enumerate(pictures.items()):
        values = " | ".join(f"{column[index]:.4f}" for column in scores.values())
        where = path.relative_to(out).as_posix()
        lines.append(f"| [{stem}, {name}]({where}) | {values} |")
    report = out / "report.md"
    write_text(report, "\n".join([*lines, ""]))
    return report


def run(out: Path, faces: Path | None, *, say: Callable[[str], None]) -> Path:
    """Convert the default student to every format and score photographs with each file.

    Args:
        out: Directory for the export, the pictures, ``scores.png`` and ``report.md``.
        faces: Folder of photographs to use besides scikit-image's astronaut, or None.
        say: Told what is being done.

    Returns:
        The report.

    Raises:
        EdgeFiqaError: If a step fails.
    """
    from edgefiqa.convert.run import run as convert
    from edgefiqa.convert.targets import parse_targets

    export = out / "export"
    say("1/3 pictures: a real photograph and damaged copies of it")
    pictures = write_pictures(out / "pictures", faces)
    say("2/3 convert: each file is made in its own process, then compared with torch")
    manifest = convert(
        "default",
        parse_targets(_TARGETS),
        out=export,
        photos=faces,
        on_start=lambda name: say(f"    {name}"),
    )
    say("3/3 score: every picture with every file, by the command edgefiqa score")
    scores = score_all(manifest, export, list(pictures), say)
    return write_report(manifest, pictures, scores, out)
