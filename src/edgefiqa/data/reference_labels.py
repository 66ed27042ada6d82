"""Quality labels without people: each degraded image measured against its original.

The label is the mean of four full-reference metrics from `piq`, each brought to 0..1::

    label = mean over m of 1 - clip(d_m / scale_m, 0, 1) ** gamma_m
    d = 1 - HaarPSI, 1 - MS-SSIM, 1 - min(VIF, 1), GMSD

HaarPSI sees luminance structure and chroma, MS-SSIM the three channels at several scales, VIF the
detail that is left, GMSD how unevenly edges suffer. An image equal to its original gets exactly 1.
`scale` and `gamma` were fixed once on a sample so that each metric spreads over the whole range;
they are constants of the label's definition. Metrics that part "equal" from "hardly changed" by a
step (MDSI does, by its fourth root) were left out: no scorer of one image can learn that step.
Such labels say how much an image lost, not what people think of it.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import DataError, MissingExtraError

__all__ = ["LABEL_VERSION", "METRICS", "SMALLEST_SIDE", "measure", "reference_label"]

LABEL_VERSION = "haarpsi+msssim+vif+gmsd/2"

SMALLEST_SIDE = 161
"""Pixels; MS-SSIM halves an image four times and then needs 11."""

# name -> (scale, gamma) of its distance from "equal"
METRICS = MappingProxyType(
    {"haarpsi": (0.75, 1.0), "ms_ssim": (0.5, 0.5), "vif": (0.9, 1.0), "gmsd": (0.3, 0.6)}
)


def measure(degraded: NDArray[np.uint8], original: NDArray[np.uint8]) -> dict[str, float]:
    """Measure one image against its original with every metric of `METRICS`.

    Args:
        degraded: uint8 RGB, HWC, at least `SMALLEST_SIDE` pixels a side.
        original: The same shape.

    Returns:
        Metric name to distance, 0 for equal images.

    Raises:
        DataError: The shapes differ or are too small.
        MissingExtraError: `piq` is not installed.
    """
    try:
        import piq
        import torch
    except ImportError as missing:
        raise MissingExtraError("piq", "train") from missing
    if degraded.shape != original.shape or min(degraded.shape[:2]) < SMALLEST_SIDE:
        shapes = f"{degraded.shape} against {original.shape}"
        raise DataError(
            "cannot compare images", value=shapes, allowed=f"equal, {SMALLEST_SIDE}² or more"
        )
    if np.array_equal(degraded, original):
        return dict.fromkeys(METRICS, 0.0)
    pair = np.stack((degraded, original)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        tensors = torch.from_numpy(np.ascontiguousarray(pair)).float() / 255
        x, y = tensors[:1], tensors[1:]
        return {
            "haarpsi": 1 - float(piq.haarpsi(x, y)),
            "ms_ssim": 1 - float(piq.multi_scale_ssim(x, y)),
            # Above 1: more contrast than the original, which is no gain of quality here.
            "vif": 1 - min(1.0, float(piq.vif_p(x, y))),
            "gmsd": float(piq.gmsd(x, y)),
        }


def reference_label(distances: dict[str, float]) -> float:
    """Combine measured distances into the label.

    Args:
        distances: What `measure` returned.

    Returns:
        0 (nothing left of the original) to 1 (equal to it).
    """
    parts = [
        1 - np.clip(distances[name] / scale, 0, 1) ** gamma
        for name, (scale, gamma) in METRICS.items()
    ]
    return float(np.mean(parts))
