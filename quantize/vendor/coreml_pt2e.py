"""W8A8 for Core ML: ExecuTorch's ``CoreMLQuantizer`` under PT2E, converted for iOS 17."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert.exporters.base import versions
from edgefiqa.convert.exporters.coreml import remove_aliases
from edgefiqa.convert.prepare import ExportScorer, prepare
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor.base import VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.quantize.vendor.coreml_file import finish
from edgefiqa.quantize.vendor.pt2e import quantize_program
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["quantize"]


class _ImageInput(nn.Module):
    """The scorer as Core ML feeds it: float pixels 0..255, ``[1, 3, S, S]``."""

    def __init__(self, scorer: ExportScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, image: Tensor) -> Tensor:
        return self.scorer.forward_nchw(image)


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` of quantise/dequantise pairs, iOS 17 and later; see ``Quantize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        example = torch.zeros(1, 3, job.size, job.size)
        model, _ = load_model(job.source)
        images = open_calibration(job.calibration, job.size)
        quantised = quantize_program(
            _ImageInput(prepare(model, job.size)).eval(),
            _quantizer(ct),
            example,
            map(_pixels, single_images(images)),
        )
        package = _convert(ct, quantised, example)
        structure = finish(package, path, job.metadata)
    return VendorNotes(
        tools=versions("torch", "torchao", "executorch", "coremltools"),
        structure=structure | {"deployment_target": "iOS17"},
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


def _convert(ct: Any, module: nn.Module, example: Tensor) -> Any:
    exported = torch.export.export(module, (example,)).run_decompositions({})
    remove_aliases(exported)
    image = ct.ImageType(name="image", shape=tuple(example.shape), color_layout=ct.colorlayout.RGB)
    return ct.convert(
        exported,
        inputs=[image],
        outputs=[ct.TensorType(name="score", dtype=np.float32)],
        compute_precision=ct.precision.FLOAT16,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )
