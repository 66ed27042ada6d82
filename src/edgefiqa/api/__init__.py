"""The public Python API: score photographs, convert, quantise and measure a scorer.

Use it through the package: ``edgefiqa.load``, ``edgefiqa.convert``, ``edgefiqa.quantize``,
``edgefiqa.measure_drift``.
"""

from edgefiqa.api.photo_scorer import Photo, PhotoScore, PhotoScorer, StrPath, load
from edgefiqa.api.pipeline import convert, measure_drift, quantize

__all__ = [
    "Photo",
    "PhotoScore",
    "PhotoScorer",
    "StrPath",
    "convert",
    "load",
    "measure_drift",
    "quantize",
]
