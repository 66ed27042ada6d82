"""How each layer of a plan is written in TFLite operators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgefiqa.convert import ExportScorer
from edgefiqa.quantize.backends.tflite_graph import Place, TfliteGraph, affine
from edgefiqa.quantize.backends.weight_codes import bias_of, symmetric_codes
from edgefiqa.quantize.plan import LayerPlan, Mode, QuantizationPlan, Range

__all__ = ["CODES", "write_plan"]

CODES = ".weight.codes"
"""What is put behind a layer's name to name its int8 weights in the file."""

_OPS = schema.BuiltinOperator
_RELU = {
    schema.ActivationFunctionType.RELU: np.inf,
    schema.ActivationFunctionType.RELU6: 6.0,
}
_PIXELS = Range(low=0.0, high=255.0)
_MAX_BIAS_CODE = 2.0**30


def write_plan(
    graph: TfliteGraph, places: Mapping[int, Place], plan: QuantizationPlan, scorer: ExportScorer
) -> None:
    """Write all operators of a graph, those of the plan's int8 layers in their int8 forms.

    Args:
        graph: The exported graph; its ``operators`` are filled.
        places: Identity of the operator → its layer.
        plan: The plan.
        scorer: What the graph was exported from.
    """
    writer = _Writer(graph, places, plan, scorer)
    for operator in graph.given:
        writer.write(operator)


@dataclass
class _Writer:
    """Writes one graph.

    Attributes:
        graph: The graph.
        places: Its layers.
        plan: Their modes.
        scorer: What the graph was exported from.
        codes: int8 tensors by float tensor and range.
    """

    graph: TfliteGraph
    places: Mapping[int, Place]
    plan: QuantizationPlan
    scorer: ExportScorer
    codes: dict[tuple[int, Range], int] = field(default_factory=dict)

    def write(self, operator: Any) -> None:
        """Write an operator, in the int8 form of the layer that it is."""
        place = self.places.get(id(operator))
        plan = None if place is None else self.plan[place.name]
        if place is None or plan is None or plan.mode is Mode.FLOAT:
            self.graph.operators.append(operator)
        elif plan.mode is Mode.STATIC:
            self._static(place, plan)
        elif plan.mode is Mode.DYNAMIC:
            self._dynamic(place)
        else:
            self._weight_only(place)

    def _weight(
        self, place: Place, least_scales: NDArray[np.float64] | float = 0.0
    ) -> tuple[int, NDArray[np.float32]]:
        """Append the int8 weight; return its index and scales."""
        codes, scales = symmetric_codes(place.weight, least_scales)
        stored = np.moveaxis(codes, 0, place.axis)
        parameters = affine(scales, np.zeros(len(scales), np.int64), place.axis)
        return self.graph.constant(place.name + CODES, stored, parameters), scales

    def _dynamic(self, place: Place) -> None:
        """int8 weights in a float operator: the runtime rounds what it reads."""
        place.operator.inputs[1], _ = self._weight(place)
        if self.graph.kind(place.operator) == _OPS.FULLY_CONNECTED:
            place.operator.builtinOptions.asymmetricQuantizeInputs = True
        self.graph.operators.append(place.operator)

    def _weight_only(self, place: Place) -> None:
        weight, _ = self._weight(place)
        floats = self.graph.tensor_like(weight, f"{place.name}.weight.float", np.float32)
        self.graph.add(_OPS.DEQUANTIZE, weight, floats)
        place.operator.inputs[1] = floats
        self.graph.operators.append(place.operator)

    def _static(self, place: Place, plan: LayerPlan) -> None:
        operator, graph = place.operator, self.graph
        source, target = int(operator.inputs[0]), int(operator.outputs[0])
        assert plan.input is not None
        assert plan.output is not None
        input_ = _PIXELS if self._is_image(source) else plan.input
        bias = np.zeros(len(place.weight), np.float32) if place.bias is None else place.bias
        step = input_.affine()[0]
        weight, scales = self._weight(
            place, np.abs(bias.astype(np.float64)) / (step * _MAX_BIAS_CODE)
        )
        inputs = [
            self._codes_of(source, input_),
            weight,
            self._bias(place.name, bias, np.float32(step) * scales),
        ]
        output = self._range_of_readers(target) or self._output_range(place, plan.output)
        codes = graph.tensor_like(target, f"{place.name}.codes", np.int8, _of_range(output))
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array([codes], np.int32)
        graph.operators.append(operator)
        graph.add(_OPS.DEQUANTIZE, codes, target)
        self.codes[target, output] = codes

    def _bias(self, name: str, bias: NDArray[np.float32], steps: NDArray[np.float32]) -> int:
        codes = np.rint(bias.astype(np.float64) / steps).astype(np.int32)
        parameters = affine(steps.astype(np.float32), np.zeros(len(steps), np.int64))
        return self.graph.constant(f"{name}.bias.codes", codes, parameters)

    def _codes_of(self, source: int, range_: Range) -> int:
        """Return the tensor with a float tensor's codes; it is written once for each range."""
        if (source, range_) not in self.codes:
            codes = self.graph.tensor_like(source, f"t{source}.codes", np.int8, _of_range(range_))
            self.graph.add(_OPS.QUANTIZE, source, codes)
            self.codes[source, range_] = codes
        return self.codes[source, range_]

    def _is_image(self, tensor: int) -> bool:
        """Tell whether a tensor is the image in float."""
        writer = next(
            (operator for operator in self.graph.given if tensor in operator.outputs), None
        )
        return (
            writer is not None
            and self.graph.kind(writer) == _OPS.CAST
            and int(writer.inputs[0]) == self.graph.image
        )

    def _output_range(self, place: Place, planned: Range) -> Range:
        """Return the range of what an operator really writes.

        The converter puts a ReLU behind a layer into its operator, and the sum of a hard sigmoid,
        relu6(x + 3), into the operator's bias.
        """
        bias = 0.0 if place.bias is None else place.bias
        added = bias - bias_of(self.scorer, place.name)
        low, high = planned.low + float(np.min(added)), planned.high + float(np.max(added))
        ceiling = _RELU.get(place.operator.builtinOptions.fusedActivationFunction)
        if ceiling is not None and high > 0:
            low, high = 0.0, min(high, ceiling)
        return Range(low=min(low, 0.0), high=max(high, 0.0))

    def _range_of_readers(self, tensor: int) -> Range | None:
        """Return the range in which all readers of a tensor want codes of it, if they agree."""
        wanted = set()
        for operator in self.graph.given:
            if tensor in operator.inputs:
                place = self.places.get(id(operator))
                plan = None if place is None else self.plan[place.name]
                wanted.add(plan.input if plan is not None and plan.mode is Mode.STATIC else None)
        return wanted.pop() if len(wanted) == 1 else None


def _of_range(range_: Range) -> Any:
    scale, zero = range_.affine()
    return affine(np.array([scale], np.float32), np.array([zero], np.int64))
