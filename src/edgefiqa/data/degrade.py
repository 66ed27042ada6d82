"""Synthetic degradations of photographs, with the parameters that were used.

Every degradation takes an RGB image, a severity from 0 (nearly invisible) to 1 (severe) and a
random generator. Random choices (direction, position, noise) are drawn before the severity is used,
so that the same generator state at a higher severity does more of the same damage. Lengths are
fractions of the short side: a severity means the same on a small and on a large photograph.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from edgefiqa.errors import DataError, UnknownNameError

__all__ = [
    "DEGRADATIONS",
    "HELD_OUT",
    "REFERENCE_SIDE",
    "Applied",
    "Degradation",
    "DegradationName",
    "degrade",
    "generator",
    "plan_chain",
]

Rgb = NDArray[np.uint8]
Parameters = dict[str, float]
Degradation = Callable[[Rgb, float, np.random.Generator], tuple[Rgb, Parameters]]

# Strengths below are tuned for what is left at this side after preprocessing.
REFERENCE_SIDE = 288


class DegradationName(StrEnum):
    """The degradations that the registry knows."""

    GAUSSIAN_BLUR = "gaussian_blur"
    MOTION_BLUR = "motion_blur"
    DEFOCUS = "defocus"
    SENSOR_NOISE = "sensor_noise"
    SHOT_NOISE = "shot_noise"
    JPEG = "jpeg"
    WEBP = "webp"
    RESAMPLE = "resample"
    LOW_LIGHT = "low_light"
    OVEREXPOSURE = "overexposure"
    CONTRAST = "contrast"
    COLOR_CAST = "color_cast"
    BANDING = "banding"
    OCCLUSION = "occlusion"


# Never seen in training unless asked for: one with near relatives there (blur), one with none.
HELD_OUT = frozenset({DegradationName.DEFOCUS, DegradationName.BANDING})


@dataclass(frozen=True, kw_only=True)
class Applied:
    """One degradation as it was applied.

    Attributes:
        name: Which degradation.
        severity: 0..1.
        parameters: The physical parameters that followed (sigma, quality factor, angle, …).
    """

    name: DegradationName
    severity: float
    parameters: Mapping[str, float]


def _short(image: Rgb) -> int:
    return int(min(image.shape[:2]))


def _to_uint8(values: NDArray[np.floating]) -> Rgb:
    rounded: Rgb = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def _linear(image: Rgb) -> NDArray[np.float32]:
    """Undo the display gamma: 0..255 display values to 0..1 light."""
    return np.power(image.astype(np.float32) / 255, 2.2)


def _display(light: NDArray[np.floating]) -> Rgb:
    return _to_uint8(255 * np.power(np.clip(light, 0, 1), 1 / 2.2))


def _convolve(image: Rgb, kernel: NDArray[np.float32]) -> Rgb:
    """Convolve each channel with an odd square kernel through the FFT, edges reflected."""
    from scipy import fft

    pad = kernel.shape[0] // 2
    padded = np.pad(image.astype(np.float32), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    height, width = padded.shape[:2]
    shape = (fft.next_fast_len(height, real=True), fft.next_fast_len(width, real=True))
    spectrum = fft.rfft2(padded, shape, axes=(0, 1))
    spectrum *= fft.rfft2(kernel / kernel.sum(), shape)[:, :, None]
    result = fft.irfft2(spectrum, shape, axes=(0, 1))
    return _to_uint8(result[2 * pad : height, 2 * pad : width])


def _gaussian_blur(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    sigma = (0.001 + 0.024 * severity**1.5) * _short(image)
    blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma))
    return np.asarray(blurred), {"sigma": sigma}


def _motion_blur(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    angle = float(rng.uniform(0, np.pi))
    length = (0.005 + 0.105 * severity**1.4) * _short(image)
    radius = int(np.ceil(length / 2)) + 1
    grid = np.arange(-radius, radius + 1, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    along = np.abs(x * np.cos(angle) + y * np.sin(angle))
    across = np.abs(y * np.cos(angle) - x * np.sin(angle))
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return _convolve(image, kernel), {"length": length, "angle": angle}


def _defocus(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    radius = (0.002 + 0.042 * severity**1.5) * _short(image)
    half = int(np.ceil(radius)) + 1
    grid = np.arange(-half, half + 1, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    # The half pixel of slope antialiases the rim of the disc.
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return _convolve(image, kernel), {"radius": radius}


def _sensor_noise(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    """Read noise: the same at every brightness, partly grey as after a camera's denoiser."""
    grey_share = float(rng.uniform(0, 0.8))
    pattern = rng.standard_normal(image.shape, dtype=np.float32)
    grey = rng.standard_normal((*image.shape[:2], 1), dtype=np.float32)
    # Downscaling averages noise away: stronger noise on larger photographs.
    sigma = (1 + 63 * severity**1.6) * max(1.0, _short(image) / REFERENCE_SIDE)
    mixed = np.sqrt(1 - grey_share) * pattern + np.sqrt(grey_share) * grey
    noisy = image.astype(np.float32) + sigma * mixed
    return _to_uint8(noisy), {"sigma": sigma, "grey_share": grey_share}


def _shot_noise(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    """Photon noise: in linear light, growing with the root of the light."""
    pattern = rng.standard_normal(image.shape, dtype=np.float32)
    photons = 8000 * 0.001**severity
    light = _linear(image)
    scale = max(1.0, _short(image) / REFERENCE_SIDE)
    return _display(light + scale * np.sqrt(light / photons) * pattern), {"photons": photons}


def _encode(image: Rgb, codec: str, **options: int) -> Rgb:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, codec, **options)
    with Image.open(buffer) as decoded:
        return np.asarray(decoded.convert("RGB"))


def _jpeg(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    quality = round(88 * (1 - severity) ** 2 + 3)
    return _encode(image, "JPEG", quality=quality), {"quality": quality}


def _webp(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    quality = round(88 * (1 - severity) ** 2)
    return _encode(image, "WEBP", quality=quality, method=2), {"quality": quality}


def _resample(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    """Shrink and enlarge again, as messengers and digital zoom do."""
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    up = filters[int(rng.choice(3, p=(0.2, 0.4, 0.4)))]
    factor = _short(image) / REFERENCE_SIDE * (1 + 9 * severity**1.5)
    height, width = image.shape[:2]
    small = (max(4, round(width / factor)), max(4, round(height / factor)))
    shrunk = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize((width, height), up)), {"factor": factor, "filter": int(up)}


def _low_light(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    """Less light: darker, with the sensor noise that comes with it."""
    pattern = rng.standard_normal(image.shape, dtype=np.float32)
    stops = 0.3 + 5.2 * severity
    light = _linear(image) * 2.0**-stops
    sigma = 0.0025 * severity * max(1.0, _short(image) / REFERENCE_SIDE)
    light = light + sigma * pattern * np.sqrt(0.1 + light)
    return _display(light), {"stops": stops, "sigma": sigma}


def _overexposure(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    stops = 0.2 + 3.6 * severity
    return _display(_linear(image) * 2.0**stops), {"stops": stops}


def _contrast(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    """Veiling flare or a dirty lens: contrast falls towards the mean and a grey haze rises."""
    haze = float(rng.uniform(-30, 60))
    gain = 1 - 0.03 - 0.85 * severity
    pixels = image.astype(np.float32)
    mean = pixels.mean()
    result = mean + gain * (pixels - mean) + (1 - gain) * haze
    return _to_uint8(result), {"gain": gain, "haze": haze}


def _color_cast(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    hue = float(rng.uniform(0, 2 * np.pi))
    strength = 0.03 + 0.82 * severity
    phases = hue + np.array((0.0, 2 * np.pi / 3, 4 * np.pi / 3))
    gains = np.exp2(strength * 1.6 * np.cos(phases)).astype(np.float32)
    return _display(_linear(image) * gains), {"strength": strength, "hue": hue}


def _banding(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    levels = 2.0 ** (5.5 - 4.2 * severity)
    step = 255 / levels
    return _to_uint8(np.rint(image.astype(np.float32) / step) * step), {"levels": levels}


def _occlusion(image: Rgb, severity: float, rng: np.random.Generator) -> tuple[Rgb, Parameters]:
    """A soft-edged ellipse over the image: a finger, a mask, hair, a phone."""
    center = rng.uniform(0.25, 0.75, 2)
    aspect, angle = float(rng.uniform(0.5, 2)), float(rng.uniform(0, np.pi))
    color = rng.uniform(0, 255, 3).astype(np.float32)
    area = 0.008 + 0.4 * severity
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y - center[0] * height, x - center[1] * width
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.sqrt(area * height * width / np.pi)
    distance = np.hypot(u / np.sqrt(aspect), v * np.sqrt(aspect)) / radius
    mask = np.clip((1 - distance) / 0.06 + 0.5, 0, 1)[:, :, None]
    parameters = {"area": area, "center_y": float(center[0]), "center_x": float(center[1])}
    return _to_uint8(image * (1 - mask) + color * mask), parameters


DEGRADATIONS: Mapping[DegradationName, Degradation] = MappingProxyType(
    {
        DegradationName.GAUSSIAN_BLUR: _gaussian_blur,
        DegradationName.MOTION_BLUR: _motion_blur,
        DegradationName.DEFOCUS: _defocus,
        DegradationName.SENSOR_NOISE: _sensor_noise,
        DegradationName.SHOT_NOISE: _shot_noise,
        DegradationName.JPEG: _jpeg,
        DegradationName.WEBP: _webp,
        DegradationName.RESAMPLE: _resample,
        DegradationName.LOW_LIGHT: _low_light,
        DegradationName.OVEREXPOSURE: _overexposure,
        DegradationName.CONTRAST: _contrast,
        DegradationName.COLOR_CAST: _color_cast,
        DegradationName.BANDING: _banding,
        DegradationName.OCCLUSION: _occlusion,
    }
)

# A chain runs the way light and data do: scene, lens, sensor, processing, transmission.
_ORDER = (
    DegradationName.OCCLUSION,
    DegradationName.LOW_LIGHT,
    DegradationName.OVEREXPOSURE,
    DegradationName.CONTRAST,
    DegradationName.COLOR_CAST,
    DegradationName.DEFOCUS,
    DegradationName.MOTION_BLUR,
    DegradationName.GAUSSIAN_BLUR,
    DegradationName.SHOT_NOISE,
    DegradationName.SENSOR_NOISE,
    DegradationName.RESAMPLE,
    DegradationName.BANDING,
    DegradationName.WEBP,
    DegradationName.JPEG,
)


def generator(seed: int, photo: str, variant: int) -> np.random.Generator:
    """Make the generator of one variant of one photo: the same whichever process builds it.

    Args:
        seed: The corpus seed.
        photo: The photo's name.
        variant: The variant's number.

    Returns:
        A fresh generator.
    """
    return np.random.default_rng([seed, variant, *photo.encode()])


def plan_chain(
    rng: np.random.Generator, names: Sequence[DegradationName], *, pristine_share: float = 0.05
) -> list[tuple[DegradationName, float]]:
    """Draw what happens to one photo: nothing, or a chain of one to three degradations.

    In a longer chain each severity is lower, so that chains do not all end as severe damage.

    Args:
        rng: Source of randomness.
        names: The degradations to draw from.
        pristine_share: Probability of an empty chain.

    Returns:
        Names and severities, in the order in which a camera would suffer them.
    """
    if rng.random() < pristine_share:
        return []
    count = min(int(rng.choice((1, 2, 3), p=(0.5, 0.33, 0.17))), len(names))
    chosen = {names[i] for i in rng.choice(len(names), size=count, replace=False)}
    ordered = [name for name in _ORDER if name in chosen]
    return [(name, float(rng.random() / count**0.5)) for name in ordered]


def degrade(
    image: Rgb, chain: Sequence[tuple[str, float]], rng: np.random.Generator
) -> tuple[Rgb, list[Applied]]:
    """Apply a chain of degradations.

    Args:
        image: uint8 RGB, HWC.
        chain: Names and severities, applied in this order.
        rng: Source of randomness.

    Returns:
        The degraded image (same shape) and one record a degradation.

    Raises:
        UnknownNameError: A name is not in `DEGRADATIONS`.
        DataError: A severity is outside 0..1.
    """
    records = []
    for name, severity in chain:
        if name not in DEGRADATIONS:
            raise UnknownNameError(
                "unknown degradation", value=name, allowed=", ".join(sorted(DEGRADATIONS))
            )
        if not 0 <= severity <= 1:
            raise DataError("severity out of range", value=severity, allowed="0 to 1")
        kind = DegradationName(name)
        image, parameters = DEGRADATIONS[kind](image, severity, rng)
        records.append(Applied(name=kind, severity=severity, parameters=parameters))
    return image, records
