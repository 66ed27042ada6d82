"""The photographs that every export is checked with.

scikit-image carries one real face, NASA's public-domain portrait of Eileen Collins. Degraded copies
of it are always used; a folder of the user's photographs is used too where one is given.
"""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgefiqa.errors import DataError, ImageError, MissingExtraError
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import load_tensor, resize_and_crop

__all__ = ["GoldenPhoto", "PhotoSet", "astronaut", "golden_photos", "load_photos"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GoldenPhoto:
    """A photograph as a file's bytes, and how exactly it decodes everywhere."""

    name: str
    suffix: str
    content: bytes
    tensor_tolerance: int = 0


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """Preprocessed photographs.

    Attributes:
        names: One name an image.
        images: uint8 ``[n, S, S, 3]``.
        source: Where they come from, in words.
        skipped: Files of the folder that could not be read, with the reason.
    """

    names: list[str]
    images: NDArray[np.uint8]
    source: str
    skipped: list[str]


def astronaut() -> Image.Image:
    """Return scikit-image's portrait, RGB, 512×512.

    Raises:
        MissingExtraError: If scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError("scikit-image", "convert") from error
    return Image.fromarray(data.astronaut())


def _noisy(image: Image.Image, sigma: float) -> Image.Image:
    pixels = np.asarray(image, np.float64)
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _encode(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def _reopened(image: Image.Image, format_: str, **options: object) -> Image.Image:
    return Image.open(io.BytesIO(_encode(image, format_, **options)))


def _astronaut_copies() -> Iterator[tuple[str, Image.Image]]:
    photo = astronaut()
    face = photo.crop((130, 10, 331, 251))
    yield "astronaut", photo
    yield "face", face
    yield "mirrored", photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for radius in (1, 2, 4, 8):
        yield f"blur {radius}", photo.filter(ImageFilter.GaussianBlur(radius))
        yield f"face blur {radius}", face.filter(ImageFilter.GaussianBlur(radius))
    for sigma in (5, 15, 40):
        yield f"noise {sigma}", _noisy(photo, sigma)
    for quality in (5, 20, 60):
        yield f"jpeg {quality}", _reopened(photo, "JPEG", quality=quality)
    for factor in (0.15, 0.5, 1.8):
        yield f"light {factor}", photo.point(lambda v, f=factor: min(255, int(v * f)))


def load_photos(size: int, folder: Path | None, limit: int) -> PhotoSet:
    """Collect the photographs for a parity check.

    Args:
        size: Input side in pixels.
        folder: The user's photographs, or None.
        limit: At most this many of them, evenly spaced through the sorted folder.

    Raises:
        DataError: If the folder's photographs are all unreadable.
        UsageError: If the folder holds none.
    """
    names, tensors, skipped = [], [], []
    for name, image in _astronaut_copies():
        names.append(name)
        tensors.append(resize_and_crop(image.convert("RGB"), size)[None])
    source = f"{len(names)} copies of scikit-image's astronaut"
    if folder is not None:
        found = find_photos([folder])
        chosen = [found[i] for i in sorted({int(i) for i in np.linspace(0, len(found) - 1, limit)})]
        for path in chosen:
            try:
                tensors.append(load_tensor(path, size))
                names.append(path.name)
            except ImageError as error:
                skipped.append(str(error))
        read = len(chosen) - len(skipped)
        if not read:
            raise DataError("none of the photographs can be read", value=folder)
        source += f", {read} of the {len(found)} photographs given"
        if skipped:
            source += f" ({len(skipped)} unreadable)"
            _log.warning("%d photographs skipped, the first: %s", len(skipped), skipped[0])
    return PhotoSet(names=names, images=np.concatenate(tensors), source=source, skipped=skipped)


def golden_photos() -> list[GoldenPhoto]:
    """Build the golden photographs: sizes, modes and files that ports get wrong."""
    photo = astronaut()
    face = photo.crop((141, 10, 312, 211))
    ramp = np.add.outer(np.arange(333) * 2, np.arange(1001)).astype(np.uint8)
    checks = ((np.indices((333, 1001)).sum(0) // 7) % 2 * 90).astype(np.uint8)
    panorama = Image.fromarray(np.dstack([ramp, checks, 255 - ramp]))
    alpha = Image.fromarray(np.linspace(0, 255, 200 * 240).reshape(240, 200).astype(np.uint8))
    cut_out = photo.crop((120, 0, 320, 240)).convert("RGBA")
    cut_out.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned by 90 degrees
    turned = photo.crop((60, 0, 380, 400)).transpose(Image.Transpose.ROTATE_90)
    lossless = {
        "portrait": photo,
        "face_small_odd": face,
        "face_blurred": face.filter(ImageFilter.GaussianBlur(3)),
        "face_grey": face.convert("L"),
        "face_palette": face.quantize(64, dither=Image.Dither.NONE),
        "cut_out_on_white": cut_out,
        "panorama": panorama,
        "tall_crop": photo.crop((200, 0, 263, 512)),
        "black": Image.new("RGB", (40, 60)),
        "white": Image.new("L", (61, 41), 255),
    }
    photos = [
        GoldenPhoto(name=name, suffix=".png", content=_encode(image, "PNG", optimize=True))
        for name, image in lossless.items()
    ]
    jpeg = _encode(turned, "JPEG", quality=85, exif=exif)
    photos.append(
        GoldenPhoto(name="camera_turned", suffix=".jpg", content=jpeg, tensor_tolerance=4)
    )
    return photos
