"""The whole way in one command: a real photograph through every format, and a report."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import write_text
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.preprocess import find_photos, open_photo, to_rgb

__all__ = ["run"]

_TARGETS = "onnx,tflite,tflite-tf,executorch,coreml"
_FACES_SHOWN = 4
_SHORT_SIDE = 512


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
        "dark, ×0.15": (photo.point(lambda value: int(value * 0.15)), ".png"),
    }


def _write_pictures(directory: Path, faces: Path | None) -> dict[Path, str]:
    """Write every photograph and copy; return file → what it shows."""
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
            options = {"quality": 8} if suffix == ".jpg" else {}
            image.save(path, **options)
            written[path] = f"{stem}, {name}"
    return written


def _score(model: str, pictures: list[Path]) -> list[float]:
    """Score as a user would: with the command, in a process that has one runtime only."""
    command = [sys.executable, "-m", "edgefiqa", "score", "--json", "--model", model]
    done = subprocess.run(  # our own command, no shell
        [*command, *map(str, pictures)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EdgeFiqaError("scoring failed", value=model, next_step=done.stderr.strip()[-500:])
    return [float(row["score"]) for row in json.loads(done.stdout)]


def _columns(manifest: Manifest, export: Path) -> dict[str, str]:
    """Return the models to score with: column title → file."""
    columns = {"torch": "default"}
    for artifact in manifest.artifacts:
        if artifact.parity:
            columns[artifact.target] = str(export / artifact.file)
    return columns


def _parity_rows(artifacts: list[Artifact]) -> list[str]:
    rows = [
        "| file | MB | executed by | images | largest difference to torch | sha256 |",
        "|---|---|---|---|---|---|",
    ]
    for artifact in artifacts:
        size, digest = f"{artifact.size_bytes / 1e6:.2f}", f"`{artifact.sha256[:12]}`"
        rows += [
            f"| {artifact.file} | {size} | {p.runtime} | {p.images} | {p.max_abs_error:.1e} | "
            f"{digest} |"
            for p in artifact.parity
        ]
        rows += [
            f"| {artifact.file} | {size} | **not executed**: {n.runtime} | 0 | {n.reason} | "
            f"{digest} |"
            for n in artifact.not_executed
        ]
    return rows


def _report(
    manifest: Manifest, pictures: dict[Path, str], scores: dict[str, list[float]], out: Path
) -> str:
    card = manifest.card
    lines = [
        "# edgefiqa demo",
        "",
        f"Model: **{card['name']}** ({card['model']}, {manifest.contract['size']} px, sha256 "
        f"`{card['sha256'][:12]}`). {card['description']}",
        "",
        "## Every file against torch",
        "",
        *_parity_rows(manifest.artifacts),
        "",
        "## Scores (higher is better)",
        "",
        f"| picture | {' | '.join(scores)} | |",
        f"|---|{'---|' * len(scores)}---|",
    ]
    for index, (path, name) in enumerate(pictures.items()):
        values = " | ".join(f"{column[index]:.4f}" for column in scores.values())
        where = path.relative_to(out).as_posix()
        lines.append(f"| {name} | {values} | ![{name}]({where}) |")
    return "\n".join([*lines, ""])


def run(out: Path, faces: Path | None, *, say: Callable[[str], None]) -> Path:
    """Convert the default student to every format and score photographs with each file.

    Args:
        out: Directory for the export, the pictures and ``report.md``.
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
    pictures = _write_pictures(out / "pictures", faces)
    say("2/3 convert: each file is made in its own process, then compared with torch")
    manifest = convert(
        "default",
        parse_targets(_TARGETS),
        out=export,
        photos=faces,
        on_start=lambda name: say(f"    {name}"),
    )
    say("3/3 score: every picture with every file, by the command edgefiqa score")
    scores = {}
    for title, model in _columns(manifest, export).items():
        say(f"    {title}")
        scores[title] = _score(model, list(pictures))
    report = out / "report.md"
    write_text(report, _report(manifest, pictures, scores, out))
    return report
