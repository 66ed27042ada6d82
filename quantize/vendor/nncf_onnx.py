"""NNCF on the ONNX file: ``nncf.quantize`` with its default preset.

Weights per channel, activations per tensor and symmetric where they may be, ranges by NNCF's
defaults, and its fast bias correction. ``nncf.compress_weights`` is left out: of depthwise
convolutions it writes the scales along the wrong axis, and ONNX Runtime refuses the file.
"""

import os
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded

import nncf
import onnx

from edgefiqa.convert import versions
from edgefiqa.quantize.vendor.base import VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.quantize.vendor.onnx_file import finish

__all__ = ["quantize"]


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.onnx`` file of quantise/dequantise pairs; see ``Quantize``."""
    model = onnx.load(str(job.float_file))
    name = model.graph.input[0].name
    images = open_calibration(job.calibration, job.size)
    feeds = [{name: image} for image in single_images(images)]
    quantised = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds))
    return VendorNotes(
        tools=versions("nncf", "onnx", "onnxruntime"),
        structure=finish(quantised, path, job.metadata),
    )
