"""Quality labels without people: each degraded image measured against its own original.

The label is the mean of three full-reference metrics from `piq`, each stretched to 0..1::

    label = mean over m of clip((q_m - floor_m) / (1 - floor_m), 0, 1) ** gamma_m
    q = HaarPSI, 1 - MDSI, MS-SSIM

HaarPSI and MDSI see luminance structure and chroma, MS-SSIM sees luminance, contrast and structure
at several scales. An image equal to its original gets exactly 1. `floor` and `gamma` were fixed
once on a sample so that labels spread over the whole range; they are constants of the label's
definition, not parameters to tune. Such labels say how much an image lost, not what people think.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import DataError, MissingExtraError

__all__ = ["LABEL_VERSION", "METRICS", "measure", "reference_label"]

LABEL_VERSION = "haarpsi+mdsi+msssim/1"

# name -> (floor, gamma)
METRICS = MappingProxyType({"haarpsi": (0.25, 1.2), "mdsi": (0.4, 1.2), "ms_ssim": (0.4, 1.5)})


def measure(degraded: NDArray[np.uint8], original: NDArray[np.uint8]) -> dict[str, float]:
    """Measure one image against its original with every metric of `METRICS`.

    Args:
        degraded: uint8 RGB, HWC, at least 161 pixels a side (MS-SSIM has five scales).
        original: The same shape.

    Returns:
        Metric name to quality, 1 for equal images.

    Raises:
        DataError: The shapes differ or are too small.
        MissingExtraError: `piq` is not installed.
    """
    try:
        import piq
        import torch
    except ImportError as missing:
        raise MissingExtraError("piq", "train") from missing
    if degraded.shape != original.shape or min(degraded.shape[:2]) < 161:
        shapes = f"{degraded.shape} against {original.shape}"
        raise DataError("cannot compare images", value=shapes, allowed="equal, 161² or more")
    pair = np.stack((degraded, original)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        tensors = torch.from_numpy(np.ascontiguousarray(pair)).float() / 255
        x, y = tensors[:1], tensors[1:]
        return {
            "haarpsi": float(piq.haarpsi(x, y)),
            "mdsi": 1 - float(piq.mdsi(x, y)),
            "ms_ssim": float(piq.multi_scale_ssim(x, y)),
        }


def reference_label(qualities: dict[str, float]) -> float:
    """Combine measured qualities into the label.

    Args:
        qualities: What `measure` returned.

    Returns:
        0 (nothing left of the original) to 1 (equal to it).
    """
    stretched = [
        np.clip((qualities[name] - floor) / (1 - floor), 0, 1) ** gamma
        for name, (floor, gamma) in METRICS.items()
    ]
    return float(np.mean(stretched))
