"""The photographs of a demo: the user's, or those that installed packages bring along."""

import csv
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefiqa.data.near_duplicates import cluster_photos
from edgefiqa.data.photographs import Face, load_rgb, read_faces
from edgefiqa.errors import ImageError, MissingExtraError
from edgefiqa.files import sha256_of, staged_path
from edgefiqa.photo_files import find_photos

__all__ = ["Photographs", "bundled_photos", "choose_photographs"]

_SKIMAGE = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"]
_BUNDLED = {
    "skimage": (
        "data",
        [*(f"{name}.png" for name in _SKIMAGE), "motorcycle_left.png", "rocket.jpg"],
    ),
    "sklearn": ("datasets/images", ["china.jpg", "flower.jpg"]),
}
_FEWEST = 8
"""Different photographs; fewer cannot be shared out between calibration and evaluation."""

_DUPLICATE_BITS = 60  # as in edgefiqa.data.corpus
_FACES_CSV = "faces.csv"


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Photographs that can be read, each under a different name.

    Attributes:
        files: Name → file.
        boxes: Face boxes of some, by name; empty where none are known.
        text: What they are, in words.
        are_own: Whether all are the user's; bundled ones are mostly no faces.
        skipped: Files that could not be read.
    """

    files: dict[str, Path]
    boxes: dict[str, Face]
    text: str
    are_own: bool
    skipped: int = 0

    def identity(self) -> dict[str, str]:
        """Return the hash of each file by name."""
        return {name: sha256_of(path) for name, path in self.files.items()}

    def copy_to(self, folder: Path) -> None:
        """Copy them into a folder with a ``faces.csv`` where there are boxes, all or none."""
        with staged_path(folder) as stage:
            stage.mkdir()
            for name, path in self.files.items():
                shutil.copyfile(path, stage / name)
            if self.boxes:
                with (stage / _FACES_CSV).open("w", newline="", encoding="utf-8") as file:
                    table = csv.writer(file)
                    table.writerow(("name", "face_x", "face_y", "face_w", "face_h"))
                    for name, box in self.boxes.items():
                        table.writerow((name, box.x, box.y, box.width, box.height))


def bundled_photos() -> list[Path]:
    """List the photographs that scikit-image and scikit-learn bring along; nothing is downloaded.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    found = []
    for package, (folder, names) in _BUNDLED.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            if package == "skimage":
                raise MissingExtraError("scikit-image", "demo")
            continue
        paths = [Path(spec.origin).parent / folder / name for name in names]
        found += [path for path in paths if path.is_file()]
    return found


def choose_photographs(folder: Path | None, limit: int) -> Photographs:
    """Choose photographs that can be read and that differ.

    Args:
        folder: The user's, or None. Where it has face boxes (``faces.csv`` in it or beside it),
            only photographs with a box are taken.
        limit: At most so many of the folder, evenly spaced.

    Returns:
        Those of the folder; the bundled ones where there is no folder, and besides where fewer
        than eight in the folder differ.

    Raises:
        UsageError: The folder holds no photograph.
        DataError: The face boxes cannot be read.
        MissingExtraError: The bundled photographs are needed, and not installed.
    """
    if folder is None:
        return _bundled()
    boxes = _read_boxes(folder)
    found = {_flat(path, folder): path for path in find_photos([folder])}
    boxed = {name: path for name, path in found.items() if _key(path, folder) in boxes}
    named = boxed or found
    names = list(named)
    places = np.unique(np.linspace(0, len(names) - 1, min(limit, len(names))).round().astype(int))
    chosen = [names[place] for place in places]
    files = {name: named[name] for name in chosen if _is_readable(named[name])}
    face_boxes = {name: boxes[_key(path, folder)] for name, path in files.items() if boxed}
    skipped = len(chosen) - len(files)
    text = f"{len(files)} of the {len(found)} photographs in {folder.name}"
    if skipped:
        text += f" ({skipped} more could not be read)"
    if _count_different(files) >= _FEWEST:
        return Photographs(files=files, boxes=face_boxes, text=text, are_own=True, skipped=skipped)
    more = _bundled()
    # A table of boxes names all photographs of a corpus, or there is none.
    return Photographs(
        files=more.files | files,
        boxes={},
        text=f"{text}, too few different ones, so besides them {more.text}",
        are_own=False,
        skipped=skipped,
    )


def _bundled() -> Photographs:
    files = {path.name: path for path in bundled_photos()}
    text = (
        f"{len(files)} photographs that scikit-image and scikit-learn bring along: things, "
        "animals, textures and one portrait, so not the faces that this scorer is made for"
    )
    return Photographs(files=files, boxes={}, text=text, are_own=False)


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _flat(path: Path, folder: Path) -> str:
    return "_".join(path.relative_to(folder).parts)


def _read_boxes(folder: Path) -> dict[str, Face]:
    """Read the face boxes of a folder by path in it; none where there is no file."""
    for path in (folder / _FACES_CSV, folder.parent / _FACES_CSV):
        if path.is_file():
            return {face.name: face for face in read_faces(path)}
    return {}


def _is_readable(path: Path) -> bool:
    try:
        load_rgb(path)
    except ImageError:
        return False
    return True


def _count_different(files: dict[str, Path]) -> int:
    if not files:
        return 0
    paths = list(files.values())
    return len(np.unique(cluster_photos(paths, duplicate_bits=_DUPLICATE_BITS)))
