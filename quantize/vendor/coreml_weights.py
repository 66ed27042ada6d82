"""Core ML Tools' compression of weights: linear int8 and palettes; the arithmetic stays float16."""

import warnings
from pathlib import Path
from typing import Any

from edgefiqa.convert import ImageInput, convert_coreml, finish_coreml, prepare_scorer, versions
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor.base import VendorJob, VendorNotes
from edgefiqa.runtimes.imports import import_coremltools

__all__ = [
    "palettise_groups_to_4_bits",
    "palettise_groups_to_6_bits",
    "palettise_to_4_bits",
    "palettise_to_6_bits",
    "quantize",
]

_GROUP = 8
"""Channels that share a palette; a layer whose channels it does not divide stays float16."""


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


def palettise_groups_to_6_bits(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` of 64 values for every 8 channels, iOS 18; see ``Quantize``."""
    return _palettise(job, path, bits=6, channels=_GROUP)


def palettise_groups_to_4_bits(job: VendorJob, path: Path) -> VendorNotes:
    """Write an ``.mlpackage`` of 16 values for every 8 channels, iOS 18; see ``Quantize``."""
    return _palettise(job, path, bits=4, channels=_GROUP)


def _palettise(job: VendorJob, path: Path, *, bits: int, channels: int = 0) -> VendorNotes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sklearn  # noqa: F401  (its k-means; without it Core ML Tools fails late)

        ct = import_coremltools()
        import coremltools.optimize.coreml as cto

        groups = {"granularity": "per_grouped_channel", "group_size": channels} if channels else {}
        rule = cto.OpPalettizerConfig(mode="kmeans", nbits=bits, **groups)
        config = cto.OptimizationConfig(global_config=rule)
        source = _convert_anew(job) if channels else _load(ct, job)
        notes = _notes(cto.palettize_weights(source, config), path, job)
    if channels:
        notes.remarks.append("palettes of channel groups need iOS 18")
    return notes


def _convert_anew(job: VendorJob) -> Any:
    """Convert the float network for iOS 18: the export is a program of iOS 16."""
    model, _ = load_model(job.source)
    scorer = prepare_scorer(model, job.size)
    return convert_coreml(ImageInput(scorer).eval(), size=job.size, target="iOS18")


def _load(ct: Any, job: VendorJob) -> Any:
    return ct.models.MLModel(str(job.float_file), skip_model_load=True)


def _notes(model: Any, path: Path, job: VendorJob) -> VendorNotes:
    return VendorNotes(
        tools=versions("coremltools"),
        structure=finish_coreml(model, path, job.metadata, size=job.size),
        remarks=["tensors of fewer than 2,048 elements keep float16 weights, the tool's default"],
    )
