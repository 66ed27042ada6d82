"""ONNX Runtime's quantisation tools.

Static as its documentation gives it: graph optimisation first (``quant_pre_process``), then
``quantize_static`` to quantise/dequantise pairs, int8, weights per channel, ranges by min-max.
Dynamic: ``quantize_dynamic``. Weight-only: ``MatMulNBitsQuantizer`` at 8 bits, which knows MatMul
and Gather alone.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded

import onnx
from onnxruntime import quantization
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgefiqa.convert import versions
from edgefiqa.quantize.vendor.base import Scheme, VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.quantize.vendor.onnx_file import finish

__all__ = ["quantize"]

_BLOCK = 128  # MatMulNBitsQuantizer's default: one scale for so many weights of a column


class _Photographs(quantization.CalibrationDataReader):  # type: ignore[misc]
    """The photographs, as ``quantize_static`` asks for them."""

    def __init__(self, images: Iterator[NDArray[np.uint8]], name: str) -> None:
        self._images = images
        self._name = name

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next feed, None after the last."""
        image = next(self._images, None)
        return None if image is None else {self._name: image}


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.onnx`` file; see ``Quantize``."""
    # It warns on the root logger of every one-dimensional tensor that has no channel axis.
    logging.getLogger().setLevel(logging.ERROR)
    remarks: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        prepared, result = Path(scratch) / "prepared.onnx", Path(scratch) / "quantised.onnx"
        match job.scheme:
            case Scheme.STATIC:
                quant_pre_process(str(job.float_file), str(prepared))
                _quantize_static(prepared, result, job)
                remarks.append("the score is quantised too: it is clipped to its calibrated range")
            case Scheme.DYNAMIC:
                quant_pre_process(str(job.float_file), str(prepared))
                quantization.quantize_dynamic(str(prepared), str(result), per_channel=True)
            case Scheme.WEIGHT_ONLY:
                _quantize_weights(Path(str(job.float_file)), result)
                remarks.append("MatMul only: convolutions and Gemm keep float weights")
        structure = finish(onnx.load(result), path, job.metadata)
    return VendorNotes(tools=versions("onnxruntime", "onnx"), structure=structure, remarks=remarks)


def _quantize_static(source: Path, target: Path, job: VendorJob) -> None:
    images = open_calibration(job.calibration, job.size)
    name = onnx.load(source).graph.input[0].name
    quantization.quantize_static(
        str(source),
        str(target),
        _Photographs(single_images(images), name),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
    )


def _quantize_weights(source: Path, target: Path) -> None:
    quantizer: Any = MatMulNBitsQuantizer(
        onnx.load(source), bits=8, block_size=_BLOCK, is_symmetric=True
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))
