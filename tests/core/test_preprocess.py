"""Photo → tensor: against torchvision, Pillow and plain numpy, and with files that are wrong."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin

import edgefiqa
from edgefiqa import preprocess
from edgefiqa.errors import ImageError, UsageError
from edgefiqa.preprocess import (
    InputContract,
    load_tensor,
    open_photo,
    resize_and_crop,
    resized_shape,
    to_rgb,
)

quick = settings(max_examples=40, deadline=None)
Pixels = NDArray[np.uint8]


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> Pixels:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(width: int = 50, height: int = 34, seed: int = 0) -> Image.Image:
    return Image.fromarray(noise(width, height, seed=seed))


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(to_rgb(image))


def over_white(color: Pixels, alpha: Pixels) -> Pixels:
    blend = color.astype(float) * alpha[..., None] + 255.0 * (255 - alpha[..., None])
    return np.rint(blend / 255).astype(np.uint8)


# --- resize and crop ----------------------------------------------------------------------------


def torchvision_reference(image: Image.Image, size: int) -> Pixels:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    steps = [Resize(size, InterpolationMode.BILINEAR, antialias=True), CenterCrop(size)]
    return np.asarray(Compose(steps)(image))


@pytest.mark.reference
@quick
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(16, 130),
    seed=st.integers(0, 9),
)
def test_equals_torchvision_bit_for_bit(width: int, height: int, size: int, seed: int) -> None:
    image = photo(width, height, seed)
    result = resize_and_crop(image, size)
    assert result.dtype == np.uint8
    assert result.shape == (size, size, 3)
    assert result.flags.owndata
    assert result.flags.writeable
    np.testing.assert_array_equal(result, torchvision_reference(image, size))


@pytest.mark.reference
@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (64, 64, 64),  # nothing to do
        (64, 100, 64),  # the short side already fits
        (67, 64, 64),  # offset 1.5, a half that rounds up to the even 2
        (65, 64, 64),  # offset 0.5, a half that rounds down to the even 0
        (64, 69, 64),  # offset 2.5
        (4032, 3024, 288),  # a phone's camera
        (3, 1000, 16),
        (1000, 3, 16),
        (1, 1, 32),
        (4032, 3, 352),
    ],
)
def test_equals_torchvision_at_the_edges(width: int, height: int, size: int) -> None:
    image = photo(width, height)
    expected = torchvision_reference(image, size)
    np.testing.assert_array_equal(resize_and_crop(image, size), expected)


@pytest.mark.reference
@quick
@given(width=st.integers(1, 9000), height=st.integers(1, 9000), size=st.integers(16, 4096))
def test_resized_shape_follows_torchvision(width: int, height: int, size: int) -> None:
    from torchvision.transforms.functional import _compute_resized_output_size

    new_height, new_width = _compute_resized_output_size((height, width), [size])
    assert resized_shape(width, height, size) == (new_width, new_height)
    assert min(new_width, new_height) == size


@pytest.mark.parametrize("shape", [(1, 1_000_000), (1_000_000, 1)])
def test_refuses_a_sliver(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"sliver\.png.*178956970 pixels after resizing"):
        resize_and_crop(Image.new("RGB", shape), 288, name="sliver.png")


@pytest.mark.parametrize("size", [15, 4097, 0, -1, 224.0, "224", True, None])
def test_refuses_unusable_sizes(size: object) -> None:
    for call in (
        lambda: resize_and_crop(photo(), size),  # type: ignore[arg-type]
        lambda: load_tensor("nowhere.png", size),  # type: ignore[arg-type]
        lambda: InputContract(size=size),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match="from 16 to 4096"):
            call()


def test_resize_needs_rgb() -> None:
    with pytest.raises(UsageError, match=r"mode L.*face\.png.*to_rgb"):
        resize_and_crop(Image.new("L", (40, 40)), 32, name="face.png")


def test_refuses_an_image_without_pixels() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        to_rgb(Image.new("RGB", (0, 5)))
    with pytest.raises(ImageError, match="no pixels"):
        resize_and_crop(Image.new("RGB", (5, 0)), 32)


# --- orientation --------------------------------------------------------------------------------

# The row and column of the stored image that become top and left, by EXIF orientation.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def with_orientation(orientation: object) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.reference
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})],
)
def test_turns_upright(kind: str, options: dict[str, object], orientation: int) -> None:
    data = encode(photo(), kind, exif=with_orientation(orientation), **options)
    stored = np.asarray(photo())
    if kind == "JPEG":
        stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    upright = to_rgb(open_photo(data))
    np.testing.assert_array_equal(np.asarray(upright), UPRIGHT[orientation](stored))
    reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(upright), np.asarray(reference))
    # Applied once: the result no longer says that it has to be turned.
    np.testing.assert_array_equal(pixels(upright), np.asarray(upright))
    tensor = load_tensor(data, 32)
    assert tensor.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(tensor[0], torchvision_reference(reference, 32))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_ignores_an_orientation_that_means_nothing(orientation: int) -> None:
    data = encode(photo(), exif=with_orientation(orientation))
    np.testing.assert_array_equal(pixels(open_photo(data)), np.asarray(photo()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_unreadable_exif_leaves_pixels_as_stored(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = encode(photo(), kind, exif=b"Exif\0\0not a TIFF header at all")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(open_photo(data, name="odd")), expected)
    # Pillow's JPEG reader has then already discarded it, without a word.
    assert kind == "JPEG" or "odd: EXIF cannot be read" in caplog.text


# --- modes --------------------------------------------------------------------------------------

GREY = noise(9, 7, 1, seed=1)
COLOR = noise(9, 7, 3, seed=2)
ALPHA = noise(9, 7, 1, seed=3)


def grey3(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (5, 4))
    result = to_rgb(image)
    assert (result.mode, result.size, result.info) == ("RGB", (5, 4), {})
    assert image.mode == mode


def test_opaque_modes() -> None:
    np.testing.assert_array_equal(pixels(Image.fromarray(COLOR)), COLOR)
    np.testing.assert_array_equal(pixels(Image.fromarray(GREY)), grey3(GREY))
    one_bit = np.where(GREY > 127, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(pixels(Image.fromarray(GREY > 127)), grey3(one_bit))
    rgbx = Image.frombytes("RGBX", (9, 7), np.dstack([COLOR, ALPHA]).tobytes())
    np.testing.assert_array_equal(pixels(rgbx), COLOR)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "CMYK", "LAB"])
def test_color_spaces_come_back_nearly(mode: str) -> None:
    # Muted colors: LAB rounds saturated ones by much more.
    smooth = Image.linear_gradient("L").resize((16, 16)).point(lambda v: 96 + v // 4)
    original = Image.merge("RGB", (smooth, smooth.rotate(90), smooth.rotate(180)))
    difference = np.asarray(original).astype(int) - pixels(original.convert(mode))
    assert np.abs(difference).max() <= 6


def test_result_is_a_new_image_and_the_input_is_untouched() -> None:
    image = photo()
    image.info["transparency"] = (1, 2, 3)
    before, info = image.tobytes(), dict(image.info)
    result = to_rgb(image)
    result.paste((0, 0, 0), (0, 0, 50, 34))
    assert image.tobytes() == before
    assert image.info == info


def test_transparency_is_laid_over_white() -> None:
    rgba = Image.fromarray(np.dstack([COLOR, ALPHA]))
    np.testing.assert_array_equal(pixels(rgba), over_white(COLOR, ALPHA))
    grey_alpha = Image.fromarray(np.dstack([GREY, ALPHA]))
    np.testing.assert_array_equal(pixels(grey_alpha), over_white(grey3(GREY), ALPHA))
    for premultiplied, straight in (("RGBa", rgba), ("La", grey_alpha)):
        result = pixels(straight.convert(premultiplied)).astype(int)
        assert np.abs(result - pixels(straight)).max() <= 2


@quick
@given(color=st.integers(0, 255), alpha=st.integers(0, 255))
def test_blend_rounds_to_nearest(color: int, alpha: int) -> None:
    image = Image.new("RGBA", (1, 1), (color, 0, 255, alpha))
    shade, cover = np.array([[[color, 0, 255]]], np.uint8), np.array([[alpha]], np.uint8)
    expected = over_white(shade, cover)
    np.testing.assert_array_equal(pixels(image), expected)


def paletted() -> tuple[Image.Image, Pixels, Pixels]:
    index, palette = noise(9, 7, 1, seed=4) % 8, noise(8, 1, 3, seed=5)[0]
    image = Image.fromarray(index).convert("L")
    image.putpalette(palette.tobytes())
    return image, index, palette


def test_palettes() -> None:
    image, index, palette = paletted()
    assert image.mode == "P"
    np.testing.assert_array_equal(pixels(image), palette[index])

    alpha = np.arange(8, dtype=np.uint8) * 36
    image.info["transparency"] = bytes(alpha)  # a table, as in PNG
    np.testing.assert_array_equal(pixels(image), over_white(palette[index], alpha[index]))

    image, index, palette = paletted()
    image.info["transparency"] = 3  # one index, as in GIF
    white = np.where((index == 3)[..., None], 255, palette[index])
    np.testing.assert_array_equal(pixels(image), white)

    image, index, palette = paletted()
    image.putpalette(np.column_stack([palette, alpha]).tobytes(), "RGBA")
    np.testing.assert_array_equal(pixels(image), over_white(palette[index], alpha[index]))


def test_palette_with_alpha_band() -> None:
    image, index, palette = paletted()
    with_band = Image.merge("PA", (image.copy(), Image.fromarray(ALPHA)))
    with_band.putpalette(palette.tobytes())
    np.testing.assert_array_equal(pixels(with_band), over_white(palette[index], ALPHA))


@pytest.mark.parametrize(
    ("mode", "key"), [("1", 255), ("L", 100), ("RGB", (1, 2, 3)), ("I;16", 40000)]
)
def test_png_color_key_becomes_white(mode: str, key: int | tuple[int, ...]) -> None:
    image = Image.new(mode, (4, 3))
    image.putpixel((1, 1), key)
    opened = open_photo(encode(image, transparency=key))
    assert "transparency" in opened.info
    result = pixels(opened)
    assert result[1, 1].tolist() == [255, 255, 255]
    assert result[0, 0].tolist() == [0, 0, 0]


def png(width: int, height: int, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    """Write a PNG by hand: Pillow cannot write 16-bit RGB or nonsense sizes."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def test_16_bit_rgb_key() -> None:
    row = struct.pack(">B6H", 0, 0x1234, 0x5678, 0x9ABC, 0x3400, 0x5600, 0x9A00)
    data = png(2, 1, 16, 2, row, chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)))
    assert pixels(open_photo(data)).tolist() == [[[255, 255, 255], [0x34, 0x56, 0x9A]]]


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N", "I"])
def test_16_bit_grey(mode: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (7, 9))
    values[0, :3] = (0, 65535, 257)
    order = {"I;16B": ">u2", "I": "=i4", "I;16N": "=u2"}.get(mode, "<u2")
    image = Image.frombytes(mode, (9, 7), values.astype(order).tobytes())
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(pixels(image), grey3(expected))


def test_16_bit_files() -> None:
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    expected = grey3(np.rint(values / 257).astype(np.uint8))
    image = Image.frombytes("I;16", (8, 8), values.tobytes())
    for kind in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(pixels(open_photo(encode(image, kind))), expected)


@pytest.mark.parametrize("value", [-1, 65536])
def test_refuses_integers_beyond_16_bits(value: int) -> None:
    with pytest.raises(ImageError, match=r"deep\.tif.*0 \(black\) to 65535"):
        to_rgb(Image.new("I", (3, 3), value), name="deep.tif")


def test_float_is_zero_to_one() -> None:
    values = np.random.default_rng(0).random((7, 9), dtype=np.float32)
    values[0, :2] = (0, 1)
    expected = np.floor(values.astype(float) * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(pixels(Image.fromarray(values)), grey3(expected))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan"), float("inf"), -float("inf")])
def test_refuses_other_floats(value: float) -> None:
    with pytest.raises(ImageError, match=r"hdr\.tif.*0 \(black\) to 1"):
        to_rgb(Image.fromarray(np.array([[0.5, value]], np.float32)), name="hdr.tif")


# --- files that are wrong -----------------------------------------------------------------------


def animated(kind: str) -> bytes:
    return encode(photo(), kind, save_all=True, append_images=[photo(seed=1)])


def tiff_with(tag: int, value: int, mode: str = "RGB") -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = value
    return encode(Image.new(mode, (8, 8)), "TIFF", tiffinfo=tags)


JPEG, PNG = encode(photo(), "JPEG"), encode(photo())
WRONG: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"this is no photo, whatever its name says", "not an image"),
    "page.png": (b"<html><body>404 Not Found</body></html>", "not an image"),
    "header-only.jpg": (JPEG[:20], "not an image|cannot be read|truncated"),
    "header-only.png": (PNG[:12], "not an image|cannot be read|truncated"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "half.png": (PNG[: len(PNG) // 2], "truncated"),
    "half.webp": (encode(photo(), "WEBP")[:200], "not an image|cannot be read|truncated"),
    "half.bmp": (encode(photo(), "BMP")[:500], "truncated"),
    "half.tif": (encode(photo(), "TIFF")[:2000], "truncated|cannot be read|not an image"),
    "half.gif": (encode(photo().convert("P"), "GIF")[:900], "truncated"),
    "bad-checksum.png": (PNG[:60] + b"????" + PNG[64:], "damaged|not an image|cannot be read"),
    "moving.gif": (animated("GIF"), "GIF file is animated.*save the one frame"),
    "moving.webp": (animated("WEBP"), "WEBP file is animated"),
    "moving.png": (animated("PNG"), "PNG file is animated"),
    "pages.tif": (animated("TIFF"), "several pages"),
    "camera.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC.*convert it"),
    "drawing.eps": (encode(photo(), "EPS"), "EPS files are not supported"),
    "icon.ico": (encode(photo(), "ICO"), "ICO files are not supported"),
    "raw.dng": (tiff_with(50706, 1), "camera raw"),
    "thumbnail.tif": (tiff_with(254, 1), "thumbnail"),
    "inverted.tif": (tiff_with(262, 0, "I;16"), "inverted"),
    "bomb.png": (png(20_000, 10_000, 8, 2, b""), "too large.*at most 178956970 pixels"),
    "big-bomb.png": (png(200_000, 10_000, 8, 2, b""), "too large.*at most 178956970 pixels"),
    "zero-wide.png": (png(0, 10, 8, 2, b""), "Allowed"),
    "text-bomb.png": (
        png(1, 1, 8, 0, b"\0\0", chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21)))),
        "cannot be read|damaged",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    data, reason = WRONG[name]
    file = tmp_path / name
    file.write_bytes(data)
    for source in (file, str(file)):
        with pytest.raises(ImageError, match=f"(?s){reason}") as caught:
            load_tensor(source, 32)
        message = str(caught.value)
        assert str(file) in message
        assert "Allowed: " in message
        assert "Next: " in message


def test_a_100_megapixel_photo_is_not_too_large() -> None:
    # Pillow would warn; here only the missing pixels are at fault.
    with pytest.raises(ImageError, match="truncated"):
        open_photo(png(10_000, 10_000, 1, 0, b""))


def test_missing_folder_and_special_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no such photo: .*gone\.jpg.*Next"):
        load_tensor(tmp_path / "gone.jpg", 32)
    with pytest.raises(ImageError, match=f"folder.*{tmp_path.name}.*Next"):
        load_tensor(tmp_path, 32)
    with pytest.raises(ImageError, match=r"cannot be opened.*nul"):
        load_tensor("nul\0.jpg", 32)
    with pytest.raises(ImageError, match=r"cannot be opened.*xxxx\.jpg"):
        load_tensor(tmp_path / ("x" * 300 + "xxxx.jpg"), 32)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"not a regular file.*pipe\.jpg"):
        load_tensor(tmp_path / "pipe.jpg", 32)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
def test_damage_gives_a_tensor_or_an_image_error(
    kind: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    data = bytearray(encode(photo(24, 18), kind, **EXIF_IF_TAKEN.get(kind, {})))
    data = data[: max(1, round(cut * 1.5 * len(data)))]
    for where, value in flips:
        data[min(int(where * len(data)), len(data) - 1)] = value
    try:
        assert load_tensor(bytes(data), 16, name="hurt").shape == (1, 16, 16, 3)
    except ImageError as error:
        assert "hurt" in str(error)


EXIF_IF_TAKEN: dict[str, dict[str, object]] = {
    kind: {"exif": with_orientation(6)} for kind in ("JPEG", "PNG", "WEBP", "TIFF")
}


def test_phone_multi_picture_jpeg_gives_its_photograph() -> None:
    data = encode(photo(), "MPO", save_all=True, append_images=[photo(seed=1)])
    opened = open_photo(data)
    assert opened.format == "MPO"
    first = Image.open(io.BytesIO(encode(photo(), "JPEG"))).convert("RGB")
    np.testing.assert_array_equal(pixels(opened), np.asarray(first))


def test_single_frame_gif_is_a_photo() -> None:
    data = encode(photo().convert("P"), "GIF")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(open_photo(data)), expected)


def test_sources_agree_and_streams_stay_open(tmp_path: Path) -> None:
    file = tmp_path / "face.png"
    file.write_bytes(PNG)
    expected = load_tensor(file, 32)
    stream = io.BytesIO(PNG)
    for source in (str(file), PNG, bytearray(PNG), memoryview(PNG), stream):
        np.testing.assert_array_equal(load_tensor(source, 32), expected)
    assert not stream.closed
    with file.open("rb") as opened, pytest.raises(ImageError, match=r"face\.png"):
        opened.seek(0, os.SEEK_END)
        load_tensor(opened, 32)
    file.unlink()  # no handle keeps it, also on Windows


def test_messages_of_later_steps_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "dark.tif"
    Image.fromarray(np.array([[2.0]], np.float32)).save(file)
    with pytest.raises(ImageError, match=r"dark\.tif"):
        to_rgb(open_photo(file))
    Image.new("L", (100_000, 1)).save(tmp_path / "sliver.png")
    with pytest.raises(ImageError, match=r"too narrow.*sliver\.png"):
        load_tensor(tmp_path / "sliver.png", 288)


# --- Pillow's global switches -------------------------------------------------------------------


def test_warnings_do_not_leak(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    # A tag whose data lies beyond the file makes Pillow warn; so does a bytes transparency.
    entry = struct.pack("<HHLL", 0x010E, 2, 500, 99_999)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    assert to_rgb(open_photo(encode(photo(), "JPEG", exif=exif))).size == (50, 34)
    image, _, _ = paletted()
    image.info["transparency"] = bytes(8)
    to_rgb(image)
    with pytest.raises(ImageError, match="too large"):
        open_photo(WRONG["bomb.png"][0])
    assert [str(w.message) for w in recwarn] == []


def test_global_state_is_restored_and_lenience_is_overruled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    filters = list(warnings.filters)
    for name in ("half.jpg", "half.png", "bomb.png"):
        with pytest.raises(ImageError):
            open_photo(WRONG[name][0])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert Image.MAX_IMAGE_PIXELS is None
    assert warnings.filters == filters


def test_threads_restore_global_state_too() -> None:
    filters = list(warnings.filters)
    expected = load_tensor(JPEG, 32)
    same: list[bool] = []

    def work() -> None:
        for _ in range(20):
            same.append(bool((load_tensor(JPEG, 32) == expected).all()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 80
    assert warnings.filters == filters


def test_import_is_light() -> None:
    code = (
        "import sys, edgefiqa.preprocess, edgefiqa.metrics;"
        "heavy = {'torch', 'torchvision', 'scipy', 'tensorflow', 'timm'} & set(sys.modules);"
        "print(*heavy)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(next(iter(edgefiqa.__path__))).parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_public_names() -> None:
    assert all(hasattr(preprocess, name) for name in preprocess.__all__)
