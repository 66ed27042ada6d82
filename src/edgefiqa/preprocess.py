"""The only definition of photo → uint8 tensor.

::

    file ──open_photo──▶ image ──to_rgb──▶ upright RGB ──resize_and_crop──▶ uint8 [S, S, 3]

Training, calibration, every runtime and the Kotlin port follow these rules, so that a score from
Python and a score on the phone start from the same bytes. numpy and Pillow are the only
dependencies. Two things are left out on purpose: embedded ICC profiles are ignored, and scaled
JPEG decoding (``draft``, ``thumbnail``, ``reducing_gap``) is never used.
"""

import io
import logging
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from edgefiqa.errors import ArtifactError, ImageError, UsageError

__all__ = [
    "MAX_PIXELS",
    "MAX_SIZE",
    "MIN_SIZE",
    "InputContract",
    "PhotoSource",
    "check_size",
    "load_tensor",
    "open_photo",
    "resize_and_crop",
    "resized_shape",
    "to_rgb",
]

MAX_PIXELS = 178_956_970
"""Largest photo, before and after resizing: where Pillow itself refuses (a 0.5 GB RGB bitmap).

Pillow warns from half of it on; that warning is muted, since 108-megapixel phones exist."""

MIN_SIZE, MAX_SIZE = 16, 4096
"""Allowed side of the network's square input, in pixels."""

PhotoSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path (``str`` or path-like), the bytes of an encoded photo, or a binary stream of them."""

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000")
_STILL = "one still photo as JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP, PPM or JPEG 2000"
_IN_MEMORY = "image in memory"
_EXPORT_AGAIN = "export the model again with this version of edgefiqa"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_SUBFILE, _TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_DNG = 254, 258, 262, 50706

_log = logging.getLogger(__name__)


def check_size(size: int) -> int:
    """Return ``size`` if it is a valid side of the network's input.

    Raises:
        UsageError: If it is not an integer from ``MIN_SIZE`` to ``MAX_SIZE``.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not MIN_SIZE <= size <= MAX_SIZE:
        what = "the input size is not usable"
        raise UsageError(
            what, value=repr(size), allowed=f"an integer from {MIN_SIZE} to {MAX_SIZE} (pixels)"
        )
    return size


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """What a scorer's input tensor is, as manifests record it.

    Only ``size`` varies; the other fields are constants, written out so that a manifest can be
    read without this source.

    Args:
        size: Side S of the square input, in pixels.
    """

    size: int
    layout: str = field(default="NHWC", init=False)
    dtype: str = field(default="uint8", init=False)
    color: str = field(default="RGB", init=False)
    value_range: tuple[int, int] = field(default=(0, 255), init=False)
    exif_orientation: bool = field(default=True, init=False)
    icc_profile: str = field(default="ignored", init=False)
    transparency: str = field(default="over white", init=False)
    resize: str = field(
        default="short side to size, long side to int(size * long / short), "
        "Pillow bilinear with antialias, no draft, no reducing_gap",
        init=False,
    )
    crop: str = field(
        default="centre, offset int(round((length - size) / 2)), halves to even", init=False
    )

    def __post_init__(self) -> None:
        check_size(self.size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The tensor's shape, ``(1, S, S, 3)``."""
        return (1, self.size, self.size, 3)

    def to_dict(self) -> dict[str, object]:
        """Return the contract as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"value_range": list(self.value_range)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "InputContract":
        """Read a contract from a manifest.

        Args:
            values: What ``to_dict`` returned, perhaps after a trip through JSON.

        Raises:
            ArtifactError: If the size is unusable, a key is missing or unknown, or a constant
                differs from this version's; all faults are named.
        """
        try:
            contract = cls(size=check_size(values.get("size")))  # type: ignore[arg-type]
        except UsageError as error:
            raise ArtifactError(
                error.what, value=error.value, allowed=error.allowed, next_step=_EXPORT_AGAIN
            ) from error
        expected = contract.to_dict()
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        faults = [f"{k} is missing" for k in expected if k not in found]
        faults += [f"{k} is unknown" for k in found if k not in expected]
        faults += [
            f"{k} is {found[k]!r}, not {v!r}"
            for k, v in expected.items()
            if k in found and (type(found[k]) is not type(v) or found[k] != v)
        ]
        if faults:
            what = "the file was made for another input contract"
            raise ArtifactError(what, value="; ".join(faults), next_step=_EXPORT_AGAIN)
        return contract


class _StrictPillow:
    """A block in which Pillow's warnings are mute and truncated files raise.

    Both are process-wide switches (``warnings.filters``, ``ImageFile.LOAD_TRUNCATED_IMAGES``), so
    the first thread to enter sets them and the last one to leave restores them; saving and
    restoring in every thread could leave them changed for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._warnings = warnings.catch_warnings()
        self._truncated = False

    def __enter__(self) -> None:
        with self._lock:
            if self._depth == 0:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
                self._truncated = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._truncated
                self._warnings.__exit__(kind, error, traceback)


_strict_pillow = _StrictPillow()


def open_photo(source: PhotoSource, *, name: str | None = None) -> Image.Image:
    """Open and fully decode one still photo.

    The first picture of a multi-picture JPEG (MPO, as phones write them with a gain map or depth)
    is the photograph and is used. Damage that the decoder itself conceals, such as flipped bits
    inside JPEG data, cannot be noticed here.

    Args:
        source: The photo. A stream is read to its end and left open.
        name: What messages call the photo; the path unless given.

    Returns:
        The image as stored: in the file's mode, not yet upright. No file is left open.

    Raises:
        ImageError: If it is missing, a folder, empty, not an image, of an unsupported format,
            truncated, damaged, animated or of several pages, or larger than ``MAX_PIXELS``.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or str(path)
        with _open_file(path, name) as file:
            return _decode(file, name)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), name or _IN_MEMORY)
    return _decode(io.BytesIO(source.read()), name or str(getattr(source, "name", _IN_MEMORY)))


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        if path.is_dir():
            raise _error(name, "a folder, where one photo is needed", "score the photos in it")
        if path.exists() and not path.is_file():
            raise _error(name, "not a regular file", "copy the photo to a file")
        return path.open("rb")
    except FileNotFoundError as error:
        raise _error(name, "there is no such photo", "check the path") from error
    except (OSError, ValueError) as error:
        what = f"the photo cannot be opened ({_reason(error)})"
        raise _error(name, what, "check the path and its permissions") from error


def _decode(stream: BinaryIO, name: str) -> Image.Image:
    head = stream.read(16)
    if not head:
        raise _error(name, "the photo is empty (0 bytes)", "copy it again from its source")
    with _strict_pillow:
        try:
            image = Image.open(stream)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(name, _reason(error).partition(",")[0]) from error
        except UnidentifiedImageError as error:
            raise _unidentified(name, head) from error
        except Exception as error:  # a plugin may raise anything on damaged data
            what = f"the photo cannot be read ({_reason(error)})"
            raise _error(name, what, "copy it again or save it as JPEG or PNG") from error
        try:
            _check_header(image, name)
            image.load()
        except ImageError:
            raise
        except Exception as error:
            what = f"the photo is truncated or damaged ({_reason(error)})"
            raise _error(name, what, "copy it again from its source") from error
    image.filename = name
    return image


def _check_header(image: ImageFile.ImageFile, name: str) -> None:
    """Refuse by what the header says, before any pixel is decoded."""
    if image.format not in _FORMATS:
        what = f"{image.format} files are not supported"
        raise _error(name, what, "save it as JPEG or PNG")
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width}×{height} pixels")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        kind = "has several pages" if image.format == "TIFF" else "is animated"
        what = f"the {image.format} file {kind}"
        raise _error(name, what, "save the one frame to be scored as JPEG or PNG")
    tags: Mapping[int, object] = getattr(image, "tag_v2", {})
    subfile = tags.get(_TIFF_SUBFILE, 0)
    if _TIFF_DNG in tags or (isinstance(subfile, int) and subfile & 1):
        what = "the file is camera raw: its first picture is a thumbnail"
        raise _error(name, what, "develop it and save it as JPEG or PNG")
    deep = image.mode.startswith("I") or image.mode == "F"
    if deep and (tags.get(_TIFF_BITS) == (12,) or tags.get(_TIFF_PHOTOMETRIC) == 0):
        what = "the TIFF holds 12-bit or inverted grey values, whose white point would be lost"
        raise _error(name, what, "save it with 8 or 16 bits, black as zero")


def to_rgb(image: Image.Image, *, name: str | None = None) -> Image.Image:
    """Turn an image upright and convert it to 8-bit RGB.

    Orientation follows ``ImageOps.exif_transpose`` (EXIF, else XMP); EXIF that cannot be parsed is
    logged and the pixels are used as stored. Each mode has one rule:

    - ``RGB``, ``RGBX``: as they are; ``1``, ``L``: the grey value three times.
    - Transparency (``LA``, ``La``, ``PA``, ``RGBA``, ``RGBa``, an RGBA palette, or a ``tRNS`` key
      or table of ``1``, ``L``, ``P``, ``RGB``, ``I;16``, ``I``): laid over white, each channel
      ``round((c·a + 255·(255 − a)) / 255)``.
    - ``P`` without transparency: through its palette.
    - ``CMYK``, ``YCbCr``, ``HSV``, ``LAB``: Pillow's conversion, embedded profiles ignored.
    - ``I;16``, ``I;16L``, ``I;16B``, ``I;16N`` and ``I``: 0..65535 is black to white,
      ``round(v / 257)``; ``I`` outside that range is refused.
    - ``F``: 0..1 is black to white, ``floor(255·v + 0.5)``; other or non-finite values are refused.

    Args:
        image: Any Pillow image; it is not changed.
        name: What messages call the image; the name ``open_photo`` gave it unless given.

    Returns:
        A new RGB image without metadata.

    Raises:
        ImageError: If the image is empty, cannot be decoded, or has values or a mode without rule.
    """
    name = name or str(getattr(image, "filename", "") or _IN_MEMORY)
    if 0 in image.size:
        raise _error(name, f"the image has no pixels ({image.width}×{image.height})")
    with _strict_pillow:
        try:
            image.load()
            orientation = _orientation(image, name)
            rgb = _convert(image, name)
        except ImageError:
            raise
        except Exception as error:
            what = f"the image cannot be converted to RGB from mode {image.mode} ({_reason(error)})"
            raise _error(name, what, "save it as RGB JPEG or PNG") from error
    upright = rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb
    upright.info.clear()  # else the orientation could be applied a second time
    return upright


def _orientation(image: Image.Image, name: str) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # EXIF is as untrusted as the pixels, but not needed for a score
        _log.warning("%s: EXIF cannot be read, orientation as stored (%s)", name, _reason(error))
        return 1


def _convert(image: Image.Image, name: str) -> Image.Image:
    """Apply the mode's rule; the result is a new RGB image."""
    mode = image.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return _convert_deep(image, name)
    keyed = mode in ("1", "L", "P", "RGB") and image.has_transparency_data
    if keyed or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # The key of a 16-bit PNG, whose pixels Pillow reduced to their high bytes.
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode == "La":  # Pillow knows no direct way
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    return white


def _convert_deep(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            what = f"floating-point values from {values.min():g} to {values.max():g}"
            raise _error(name, what, "divide by the white point", "0 (black) to 1 (white)")
        grey = np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    else:
        if values.min() < 0 or values.max() > 65535:
            what = f"integer values from {values.min()} to {values.max()}"
            raise _error(name, what, "save it with 8 or 16 bits", "0 (black) to 65535 (white)")
        # 257 is odd, so no half occurs and adding 128 rounds exactly.
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        key = image.info.get("transparency")
        if isinstance(key, int):
            grey[values == key] = 255
    return Image.fromarray(grey).convert("RGB")


def resized_shape(width: int, height: int, size: int) -> tuple[int, int]:
    """Return ``(width, height)`` after the short side became ``size``, as torchvision rounds it."""
    short, long = min(width, height), max(width, height)
    # The product first, then a float division: torchvision's order, kept for bit equality.
    new_long = int(size * long / short)
    return (size, new_long) if width <= height else (new_long, size)


def resize_and_crop(image: Image.Image, size: int, *, name: str | None = None) -> NDArray[np.uint8]:
    """Resize the short side to ``size`` and cut the central square.

    Bit for bit torchvision's ``Resize(size, BILINEAR, antialias=True)`` and ``CenterCrop(size)`` on
    the same image: long side ``int(size · long / short)``, Pillow's antialiased bilinear filter,
    offset ``int(round((length − size) / 2))`` with Python's rounding of halves to even.

    Args:
        image: An RGB image, upright.
        size: Side S of the square.
        name: What messages call the image.

    Returns:
        uint8 ``[S, S, 3]``, RGB, 0..255, a writable array that shares no memory.

    Raises:
        UsageError: If the size is unusable or the image is not RGB.
        ImageError: If the image is empty or so narrow that it would exceed ``MAX_PIXELS``.
    """
    check_size(size)
    name = name or _IN_MEMORY
    if image.mode != "RGB":
        what = f"resize_and_crop needs an RGB image, not mode {image.mode}"
        raise UsageError(what, value=name, next_step="call to_rgb first")
    if 0 in image.size:
        raise _error(name, f"the image has no pixels ({image.width}×{image.height})")
    width, height = resized_shape(*image.size, size)
    if width * height > MAX_PIXELS:
        what = f"the photo is too narrow: {image.width}×{image.height} becomes {width}×{height}"
        allowed = f"at most {MAX_PIXELS} pixels after resizing"
        raise _error(name, what, "crop it around the face", allowed)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return np.array(resized.crop((left, top, left + size, top + size)), dtype=np.uint8)


def load_tensor(source: PhotoSource, size: int, *, name: str | None = None) -> NDArray[np.uint8]:
    """Read one photo as the tensor that every scorer takes.

    Args:
        source: The photo, see ``open_photo``.
        size: Side S of the scorer's input.
        name: What messages call the photo; the path unless given.

    Returns:
        uint8 ``[1, S, S, 3]``, RGB, 0..255.

    Raises:
        UsageError: If the size is unusable.
        ImageError: If the photo cannot be scored; the message names it.
    """
    check_size(size)
    image = open_photo(source, name=name)
    name = name or str(getattr(image, "filename", _IN_MEMORY))
    return resize_and_crop(to_rgb(image, name=name), size, name=name)[np.newaxis]


def _reason(error: BaseException) -> str:
    """One line for a foreign exception, without its path: messages name the photo themselves."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _error(name: str, what: str, next_step: str | None = None, allowed: str = _STILL) -> ImageError:
    return ImageError(what, value=name, allowed=allowed, next_step=next_step)


def _too_large(name: str, found: str) -> ImageError:
    what = f"the photo is too large ({found})"
    return _error(name, what, "scale it down first", f"at most {MAX_PIXELS} pixels")


def _unidentified(name: str, head: bytes) -> ImageError:
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return _error(name, "HEIC photos are not supported", "convert it to JPEG or PNG")
    return _error(name, "this is not an image that can be read", "save it as JPEG or PNG")
