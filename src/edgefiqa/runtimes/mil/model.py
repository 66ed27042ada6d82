"""``MilModel``: a Core ML package that runs anywhere, one op after the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgefiqa.runtimes.imports import import_coremltools
from edgefiqa.runtimes.mil.call import MilOp, TensorType
from edgefiqa.runtimes.mil.features import Feature, read_features, take_inputs, to_output
from edgefiqa.runtimes.mil.package import Package, open_package
from edgefiqa.runtimes.mil.program import Mode, Observer, Program, lower

__all__ = ["FP16_MAX", "MilModel"]

FP16_MAX = 65504.0
"""Largest finite float16."""


class MilModel:
    """An ML Program in the reference evaluator. Not Core ML: see ``docs/coreml-on-linux.md``.

    One prediction at a time; torch's number of threads is the caller's to set.

    Attributes:
        path: The package.
        runtime: Name and version for records; it says "reference evaluator", never "Core ML".
        mode: How floats are rounded.
        opset: The program's opset ("CoreML6" for iOS 16).
        inputs: What ``predict`` takes.
        outputs: What ``predict`` gives.
        arguments: The types the program declares for its inputs, in its order.
        ops: Every op but constants, in the order of the program.
        ops_sha256: Hash over the op list; equal for two conversions of the same network.
        weights_sha256: Hash of the weight file; None if there is none.
        largest: Largest finite magnitude among the float results of the last prediction, before
            rounding: above ``FP16_MAX`` float16 overflows.
        largest_op: Name of the op that made it.
    """

    def __init__(self, package: Package, program: Program) -> None:
        version = import_coremltools().__version__
        unrounded = " without float16 rounding" if program.mode is Mode.FP32 else ""
        self.path, self.opset = package.path, package.opset
        self.mode = program.mode
        self.runtime = (
            f"MIL reference evaluator{unrounded} (torch {torch.__version__}, coremltools {version})"
        )
        description = package.spec.description
        self.inputs: list[Feature] = read_features(description.input)
        self.outputs: list[Feature] = read_features(description.output)
        self.arguments: list[TensorType] = program.inputs
        self.ops: list[MilOp] = program.ops
        self.ops_sha256, self.weights_sha256 = program.sha256, package.weights_sha256
        self.folded = program.folded
        self.largest, self.largest_op = 0.0, ""
        self._program = program

    @classmethod
    def load(cls, path: Path | str, *, mode: Mode | str = Mode.FP16) -> "MilModel":
        """Load a package.

        Args:
            path: The ``.mlpackage`` directory.
            mode: ``fp16`` rounds every result to its declared type, ``fp32`` keeps float32 where
                float16 is declared; a float32 program is the same in both.

        Raises:
            ArtifactError: If the package is damaged, incomplete, no ML Program, or too new.
            UnsupportedOp: If the program has an op the evaluator does not know.
        """
        package = open_package(Path(path))
        return cls(package, lower(package.function, Mode(mode)))

    def predict(
        self, inputs: Mapping[str, Any], *, observe: Observer | None = None
    ) -> dict[str, Any]:
        """Evaluate the program once.

        Args:
            inputs: By name: PIL images of the model's mode and size, or arrays.
            observe: Called with each op and its outputs as float32, int32 or bool tensors, in the
                order of the program; first with each input, as an op of type "input". For
                calibration: the tensors are to be read there and not kept.

        Returns:
            The outputs by name: numpy arrays of the declared type, or PIL images.

        Raises:
            UsageError: If the inputs are not those of the model.
        """
        with torch.inference_mode():
            arguments = take_inputs(self.inputs, self._program.inputs, inputs)
            found, (self.largest, self.largest_op) = self._program.run(arguments, observe)
            return {
                feature.name: to_output(feature, found[feature.name]) for feature in self.outputs
            }
