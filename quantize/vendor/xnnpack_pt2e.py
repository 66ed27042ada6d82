"""ExecuTorch's documented way to int8 on XNNPACK: PT2E with its ``XNNPACKQuantizer``.

Weights symmetric and per channel, activations per tensor. The quantiser knows convolutions,
Linear, additions, products, concatenation and average pooling; the rest stays float32.
"""

import warnings
from pathlib import Path

import torch

from edgefiqa.convert import (
    count_partitions,
    example_image,
    prepare_scorer,
    split_large_depthwise,
    versions,
)
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor.base import Scheme, VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images
from edgefiqa.quantize.vendor.pt2e import quantize_program
from edgefiqa.runtimes.base import METADATA_KEY

__all__ = ["quantize"]


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write a ``.pte`` file for XNNPACK; see ``Quantize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        exported = torch.export.export(_quantised(job), (example_image(job.size),))
        program = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            constant_methods={METADATA_KEY: job.metadata.model_dump_json()},
        )
        structure = count_partitions(program)
        with path.open("wb") as file:
            program.to_executorch().write_to_file(file)
    return VendorNotes(tools=versions("torch", "executorch", "torchao"), structure=structure)


def _quantised(job: VendorJob) -> torch.fx.GraphModule:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    dynamic = job.scheme is Scheme.DYNAMIC
    quantizer = XNNPACKQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    )
    model, _ = load_model(job.source)
    images = open_calibration(job.calibration, job.size)
    return quantize_program(
        split_large_depthwise(prepare_scorer(model, job.size)),
        quantizer,
        example_image(job.size),
        # One run is enough where no activation's range is wanted.
        map(torch.from_numpy, single_images(images[:1] if dynamic else images)),
    )
