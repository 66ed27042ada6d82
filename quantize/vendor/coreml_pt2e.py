"""W8A8 for Core ML: ExecuTorch's ``CoreMLQuantizer`` under PT2E, converted for iOS 17."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefiqa.convert import ImageInput, convert_coreml, finish_coreml, prepare_scorer, versions
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor.base import VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.quantize.vendor.pt2e import quantize_program
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["quantize"]

_TARGET = "iOS17"


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` of quantise/dequantise pairs, iOS 17 and later; see ``Quantize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        example = torch.zeros(1, 3, job.size, job.size)
        model, _ = load_model(job.source)
        images = open_calibration(job.calibration, job.size)
        quantised = quantize_program(
            ImageInput(prepare_scorer(model, job.size)).eval(),
            _quantizer(ct),
            example,
            map(_pixels, single_images(images)),
        )
        package = convert_coreml(quantised, size=job.size, target=_TARGET)
        structure = finish_coreml(package, path, job.metadata, size=job.size)
    return VendorNotes(
        tools=versions("torch", "torchao", "executorch", "coremltools"),
        structure=structure | {"deployment_target": _TARGET},
        remarks=["quantised activations need iOS 17; the float export runs on iOS 16"],
    )


def _pixels(image: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 ``[1, S, S, 3]`` into float32 ``[1, 3, S, S]``, 0..255."""
    return torch.from_numpy(image).permute(0, 3, 1, 2).float()


def _quantizer(ct: Any) -> Any:
    """Return the quantiser with the configuration of ExecuTorch's documentation."""
    from coremltools.optimize.torch import quantization
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer

    return CoreMLQuantizer(
        quantization.LinearQuantizerConfig(
            global_config=quantization.ModuleLinearQuantizerConfig(
                quantization_scheme="symmetric",
                activation_dtype=torch.quint8,
                weight_dtype=torch.qint8,
                weight_per_channel=True,
            )
        )
    )
