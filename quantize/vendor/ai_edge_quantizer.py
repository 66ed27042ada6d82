"""Google's ai-edge-quantizer on the ``.tflite`` file, with its recipes.

``static_wi8_ai8``, ``dynamic_wi8_afp32`` and ``weight_only_wi8_afp32``: weights per channel. One
rule is added to the static recipe, since the scorer contract wants a float32 score: the output is
not quantised.
"""

import warnings
from pathlib import Path
from typing import Any

from edgefiqa.convert import TFLITE_INPUT, TFLITE_SIGNATURE, finish_tflite, versions
from edgefiqa.quantize.vendor.base import Scheme, VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images

__all__ = ["quantize"]

_RECIPES = {
    Scheme.STATIC: "static_wi8_ai8",
    Scheme.DYNAMIC: "dynamic_wi8_afp32",
    Scheme.WEIGHT_ONLY: "weight_only_wi8_afp32",
}


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write a ``.tflite`` file; see ``Quantize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_quantizer import qtyping, quantizer, recipe

        tool = quantizer.Quantizer(str(job.float_file), getattr(recipe, _RECIPES[job.scheme])())
        remarks, ranges = [], None
        if job.scheme is Scheme.STATIC:
            output = qtyping.TFLOperationName.OUTPUT
            tool.update_quantization_recipe(".*", output, algorithm_key="no_quantize")
            remarks.append("the recipe alone would give an int8 score: the output is left in float")
            ranges = _calibrate(tool, job)
        result = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    content, notes = finish_tflite(bytes(result.quantized_model), job.metadata, [])
    path.write_bytes(content)
    return VendorNotes(
        tools=versions("ai-edge-quantizer", "ai-edge-litert"),
        structure=notes.structure,
        remarks=remarks,
    )


def _calibrate(tool: Any, job: VendorJob) -> Any:
    images = open_calibration(job.calibration, job.size)
    # A list: the tool counts its data by running through it first.
    feeds = [{TFLITE_INPUT: image} for image in single_images(images)]
    return tool.calibrate({TFLITE_SIGNATURE: feeds}, num_threads=1)
