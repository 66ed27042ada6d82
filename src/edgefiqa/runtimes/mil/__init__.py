"""A reference evaluator of ML Programs, the programs inside Core ML's ``.mlpackage`` files.

It needs torch and coremltools, no Apple hardware. ``MilModel.load(path).predict(inputs)`` mirrors
``coremltools.models.MLModel``; what its agreement with Core ML means, and does not mean, stands in
``docs/coreml-on-linux.md``.
"""

from edgefiqa.errors import UnsupportedOp
from edgefiqa.runtimes.mil.call import MilOp, TensorType
from edgefiqa.runtimes.mil.model import FP16_MAX, MilModel
from edgefiqa.runtimes.mil.program import Mode, Observer

__all__ = ["FP16_MAX", "MilModel", "MilOp", "Mode", "Observer", "TensorType", "UnsupportedOp"]
