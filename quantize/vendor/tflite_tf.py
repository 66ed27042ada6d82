"""TensorFlow's ``TFLiteConverter`` on the Keras twin: the classic way.

Static is "full integer with float fallback" of its documentation (``Optimize.DEFAULT`` and a
representative data set); dynamic is the same without the data set.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.convert import (
    TFLITE_INPUT,
    TwinModel,
    build_twin,
    finish_tflite,
    load_tensorflow,
    prepare_scorer,
    versions,
)
from edgefiqa.models import load_model
from edgefiqa.quantize.vendor.base import Scheme, VendorJob, VendorNotes
from edgefiqa.quantize.vendor.calibration_images import open_calibration, single_images

__all__ = ["quantize"]


def quantize(job: VendorJob, path: Path) -> VendorNotes:
    """Write a ``.tflite`` file; see ``Quantize``.

    Raises:
        UsageError: If the architecture has no Keras twin.
    """
    model, _ = load_model(job.source)
    twin = build_twin(prepare_scorer(model, job.size), job.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the converter
        content = _convert(twin, job)
    content, notes = finish_tflite(content, job.metadata, [])
    path.write_bytes(content)
    return VendorNotes(
        tools=versions("torch", "tensorflow_cpu", "keras"), structure=notes.structure
    )


def _convert(twin: TwinModel, job: VendorJob) -> bytes:
    tf: Any = load_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specification = tf.TensorSpec((1, job.size, job.size, 3), tf.uint8, name=TFLITE_INPUT)
    concrete = tf.function(twin.model).get_concrete_function(specification)
    frozen = convert_variables_to_constants_v2(concrete)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], twin.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.scheme is Scheme.STATIC:
        images = open_calibration(job.calibration, job.size)

        def photographs() -> Iterator[list[NDArray[np.uint8]]]:
            return ([image] for image in single_images(images))

        converter.representative_dataset = photographs
    content: bytes = converter.convert()
    return content
