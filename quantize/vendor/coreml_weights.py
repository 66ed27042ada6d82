"""Core ML Tools' compression of weights: linear int8 and palettes; the arithmetic stays float16."""

import warnings
from pathlib import Path
from typing import Any

from edgefiqa.convert.exporters.base import versions
from edgefiqa.quantize.vendor.base import VendorJob, VendorNotes
from edgefiqa.quantize.vendor.coreml_file import finish
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["palettise_to_4_bits", "palettise_to_6_bits", "quantize"]


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` with symmetric int8 weights per channel; see ``Quantize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        import coremltools.optimize.coreml as cto

        rule = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")
        config = cto.OptimizationConfig(global_config=rule)
        model = cto.linear_quantize_weights(_load(ct, job), config)
        return _notes(model, path, job)


def palettise_to_6_bits(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` whose weights are one of 64 values a tensor; see ``Quantize``."""
    return _palettise(job, path, bits=6)


def palettise_to_4_bits(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` whose weights are one of 16 values a tensor; see ``Quantize``."""
    return _palettise(job, path, bits=4)


def _palettise(job: VendorJob, path: Path, *, bits: int) -> VendorNotes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sklearn  # noqa: F401  (its k-means; without it Core ML Tools fails late)

        ct = import_coremltools()
        import coremltools.optimize.coreml as cto

        rule = cto.OpPalettizerConfig(mode="kmeans", nbits=bits)
        config = cto.OptimizationConfig(global_config=rule)
        model = cto.palettize_weights(_load(ct, job), config)
        return _notes(model, path, job)


def _load(ct: Any, job: VendorJob) -> Any:
    return ct.models.MLModel(str(job.float_file), skip_model_load=True)


def _notes(model: Any, path: Path, job: VendorJob) -> VendorNotes:
    return VendorNotes(
        tools=versions("coremltools"),
        structure=finish(model, path, job.metadata),
        remarks=["tensors of fewer than 2,048 elements keep float16 weights, the tool's default"],
    )
