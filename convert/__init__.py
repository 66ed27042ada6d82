"""From trained weights to scorer files for each runtime, with proof that they agree.

The names below are all that other stages may use; see ``edgefiqa.lazy`` for how they are imported.
"""

from typing import TYPE_CHECKING

from edgefiqa import lazy

if TYPE_CHECKING:
    from edgefiqa.convert.export_table import parity_table
    from edgefiqa.convert.exporters.base import count_ops, example_image, versions
    from edgefiqa.convert.exporters.coreml import ImageInput
    from edgefiqa.convert.exporters.coreml import convert as convert_coreml
    from edgefiqa.convert.exporters.coreml import finish as finish_coreml
    from edgefiqa.convert.exporters.executorch import count_partitions
    from edgefiqa.convert.exporters.onnx import export as export_onnx
    from edgefiqa.convert.exporters.tflite import convert as convert_tflite
    from edgefiqa.convert.exporters.tflite import finish as finish_tflite
    from edgefiqa.convert.keras_twin import TwinModel, build_twin
    from edgefiqa.convert.keras_twin.backend import load_tensorflow
    from edgefiqa.convert.photos import astronaut, golden_photos
    from edgefiqa.convert.prepare import ExportScorer, Normalise, prepare_scorer
    from edgefiqa.convert.run import run as export_model
    from edgefiqa.convert.targets import TARGETS, ExportTarget, parse_targets
    from edgefiqa.convert.tflite_file import INPUT as TFLITE_INPUT
    from edgefiqa.convert.tflite_file import SIGNATURE as TFLITE_SIGNATURE
    from edgefiqa.convert.tflite_file import pack as pack_tflite
    from edgefiqa.convert.tflite_file import unpack as unpack_tflite
    from edgefiqa.convert.xnnpack import split_large_depthwise

__all__ = [
    "TARGETS",
    "TFLITE_INPUT",
    "TFLITE_SIGNATURE",
    "ExportScorer",
    "ExportTarget",
    "ImageInput",
    "Normalise",
    "TwinModel",
    "astronaut",
    "build_twin",
    "convert_coreml",
    "convert_tflite",
    "count_ops",
    "count_partitions",
    "example_image",
    "export_model",
    "export_onnx",
    "finish_coreml",
    "finish_tflite",
    "golden_photos",
    "load_tensorflow",
    "pack_tflite",
    "parity_table",
    "parse_targets",
    "prepare_scorer",
    "split_large_depthwise",
    "unpack_tflite",
    "versions",
]

# `edgefiqa.convert(...)` is a function of the public API, see edgefiqa.api.
lazy.make_callable(__name__, "edgefiqa.api:convert")

if not TYPE_CHECKING:  # a type checker that saw it would accept any name
    __getattr__ = lazy.attach(__name__)
