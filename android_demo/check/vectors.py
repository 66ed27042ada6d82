"""Make resampler vectors with Pillow for the Kotlin tests.

``vectors.py DIR`` writes ``vectors.json`` and raw RGB files; ``vectors.py --noise`` prints the
table of hashes that ``PreprocessorTest`` carries for machines without Python.
"""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from edgefiqa.goldens import tensor_sha256
from edgefiqa.preprocess import load_tensor, open_photo, resize_and_crop, to_rgb

SIZES = (16, 17, 64, 112, 160, 224, 288, 352)
NOISE = (
    *((64, 48, 32), (48, 64, 32), (333, 501, 64), (97, 101, 112), (1, 40, 16), (40, 1, 16)),
    *((200, 300, 200), (123, 17, 33), (31, 31, 160), (100, 300, 50), (40, 410, 16)),
)
RANDOM_CASES = 170

Case = tuple[str, Image.Image, int]


def _random_shapes(rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    for _ in range(RANDOM_CASES):
        width, height = (int(2 ** rng.uniform(0, 10.3)) for _ in range(2))
        if max(width, height) <= 200 * min(width, height):
            yield width, height, int(rng.choice(SIZES))
        else:
            yield width, 1 + width // 100, int(rng.choice(SIZES))


def _pixels(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Noise, a ramp, or black and white dots: what shows a rounding fault soonest."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        y, x = np.mgrid[:height, :width]
        return np.stack([x * 3 + y, y * 5, x + 200 - y], axis=-1).astype(np.uint8)
    return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)


def _made_cases() -> Iterator[Case]:
    rng = np.random.default_rng(2025)
    shapes = [*_random_shapes(rng)]
    shapes += [(1, 1, 16), (1, 500, 16), (500, 1, 16), (2, 999, 64), (999, 2, 64), (3, 1000, 33)]
    shapes += [(288, 288, 288), (288, 400, 288), (400, 288, 288), (287, 289, 288), (576, 577, 288)]
    shapes += [(4000, 3000, 288), (3000, 4000, 352), (4032, 3024, 224), (9001, 401, 288)]
    for number, (width, height, size) in enumerate(shapes):
        image = Image.fromarray(_pixels(rng, width, height))
        yield f"made_{number}_{width}x{height}_to_{size}", image, size


def _photo_cases() -> Iterator[Case]:
    from skimage import data

    photos = {name: Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee")}
    for name, photo in photos.items():
        for size in SIZES:
            yield f"{name}_{size}", photo, size
        for width, height in ((333, 499), (127, 512), (511, 85)):
            yield f"{name}_{width}x{height}", photo.crop((0, 0, width, height)), 288


def _exif_cases() -> Iterator[tuple[str, bytes, int]]:
    """JPEG and PNG files of every orientation, decoded and turned by the Python side."""
    from skimage import data

    photo = Image.fromarray(data.astronaut()).crop((100, 0, 431, 203))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        for format_ in ("JPEG", "PNG"):
            content = io.BytesIO()
            photo.save(content, format_, exif=exif)
            yield f"exif_{orientation}_{format_.lower()}", content.getvalue(), 112


def _write(folder: Path) -> None:
    rows = []

    def add(name: str, image: Image.Image, size: int, tensor: NDArray[np.uint8]) -> None:
        (folder / f"{name}.rgb").write_bytes(image.tobytes())
        rows.append(
            {
                "name": name,
                "pixels": f"{name}.rgb",
                "width": image.width,
                "height": image.height,
                "size": size,
                "tensor_sha256": tensor_sha256(tensor),
            }
        )

    for cases in (_made_cases(), _photo_cases()):
        for name, image, size in cases:
            add(name, image, size, resize_and_crop(image, size))
    for name, content, size in _exif_cases():
        add(name, to_rgb(open_photo(content)), size, load_tensor(content, size))
    (folder / "vectors.json").write_text(json.dumps({"cases": rows}, indent=1))
    sys.stdout.write(f"{len(rows)} vectors in {folder}\n")


def _noise(width: int, height: int, seed: int) -> Image.Image:
    """Return the picture that ``noise`` in the Kotlin tests makes."""
    state, values = seed, bytearray()
    for _ in range(3 * width * height):
        state = (state * 1_103_515_245 + 12_345) & 0xFFFFFFFF
        values.append((state >> 16) & 0xFF)
    return Image.frombytes("RGB", (width, height), bytes(values))


def _print_noise() -> None:
    for width, height, size in NOISE:
        tensor = resize_and_crop(_noise(width, height, width * 7 + height), size)
        line = f'Triple({width}, {height}, {size}) to\n    "{tensor_sha256(tensor)}",\n'
        sys.stdout.write(line)


if __name__ == "__main__":
    if sys.argv[1:] == ["--noise"]:
        _print_noise()
    else:
        out = Path(sys.argv[1])
        out.mkdir(parents=True, exist_ok=True)
        _write(out)
