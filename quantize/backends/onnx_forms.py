"""How each layer of a plan is written in ONNX operators."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from edgefiqa.quantize.backends.onnx_graph import Graph, Place
from edgefiqa.quantize.backends.weight_codes import symmetric_codes
from edgefiqa.quantize.plan import PIXELS, LayerPlan, Mode, QuantizationPlan, Range

__all__ = ["CODES", "write_plan"]

CODES = ".weight.codes"
"""What is put behind a layer's name to name its int8 weights in the file."""

_MAX_BIAS_CODE = 2.0**30
_NHWC_TO_NCHW, _NCHW_TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
_LAYOUT = ("Cast", "Transpose")


def write_plan(graph: Graph, places: Mapping[str, Place], plan: QuantizationPlan) -> None:
    """Write all nodes of a graph, those of the plan's int8 layers in their int8 forms.

    Args:
        graph: The exported graph; its ``nodes`` are filled.
        places: First output of a layer's multiply → its place.
        plan: The plan.
    """
    writer = _Writer(graph, places, plan)
    for node in graph.model.graph.node:
        writer.write(node)


@dataclass
class _Writer:
    """Writes one graph.

    Attributes:
        graph: The graph.
        places: Its layers.
        plan: Their modes.
        rounded: Tensors of which every reader reads the dequantised codes: their range, and the
            tensor with these.
        to_round: Those that will be, once they are written.
        replaced: Tensors that an int8 form has written already.
    """

    graph: Graph
    places: Mapping[str, Place]
    plan: QuantizationPlan
    rounded: dict[str, tuple[Range, str]] = field(default_factory=dict)
    to_round: dict[str, Range] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)

    def write(self, node: NodeProto) -> None:
        """Write a node, or the layer that it is part of."""
        output = node.output[0]
        place = self.places.get(output)
        if place is not None and self.plan[place.name].mode is not Mode.FLOAT:
            self._write_layer(place, self.plan[place.name])
        elif output not in self.replaced:
            self._copy(node)
        if output in self.to_round:
            self._round(output, self.to_round[output])

    def _write_layer(self, place: Place, plan: LayerPlan) -> None:
        if plan.mode is Mode.WEIGHT:
            self._weight_only(place)
            return
        self.replaced.add(place.output)
        if place.node.op_type == "Conv" and not self._cuts_patches(place):
            if plan.mode is Mode.DYNAMIC:
                self._integer_conv(place, *self._dynamic_codes(place.node.input[0]))
            elif plan.layer.pixels:
                codes, range_ = self._static_codes(place.node.input[0], plan)
                self._integer_conv(place, codes, *self._affine(range_))
            else:
                self._static_conv(place, plan)
        else:
            self._rows(place, plan)

    def _copy(self, node: NodeProto) -> NodeProto:
        created = NodeProto()
        created.CopyFrom(node)
        del created.input[:]
        created.input.extend(map(self._read, node.input))
        self.graph.nodes.append(created)
        return created

    def _read(self, tensor: str) -> str:
        return self.rounded[tensor][1] if tensor in self.rounded else tensor

    # Codes of activations

    def _affine(self, range_: Range) -> tuple[str, str]:
        scale, zero = range_.affine(signed=False)
        return (
            self.graph.shared(f"scale.{scale:.9g}", np.array(scale, np.float32)),
            self.graph.shared(f"zero.{zero}", np.array(zero, np.uint8)),
        )

    def _quantize(self, tensor: str, range_: Range) -> str:
        """Return the tensor with the uint8 codes of another."""
        known = self.rounded.get(tensor)
        if known is not None and known[0] != range_:
            tensor = known[1]  # else ONNX Runtime would find a convolution with two outputs
        affine = self._affine(range_)
        return self.graph.add("QuantizeLinear", [tensor, *affine], f"{tensor}.{affine[0]}")

    def _dequantize(self, codes: str, range_: Range) -> str:
        return self.graph.add("DequantizeLinear", [codes, *self._affine(range_)], f"{codes}.float")

    def _round(self, tensor: str, range_: Range) -> None:
        rounded = self._dequantize(self._quantize(tensor, range_), range_)
        self.rounded[tensor] = (range_, rounded)

    def _image_behind(self, tensor: str) -> str | None:
        """Return the image's codes in the layout of a tensor that is only the image in float."""
        image, moves = self.graph.model.graph.input[0].name, []
        while tensor != image:
            node = self.graph.writers.get(tensor)
            if node is None or node.op_type not in _LAYOUT:
                return None
            moves += [_moves(node)] if node.op_type == "Transpose" else []
            tensor = node.input[0]
        for perm in reversed(moves):
            tensor = self.graph.add("Transpose", [tensor], f"{tensor}.transposed", perm=perm)
        return tensor

    def _static_codes(self, tensor: str, plan: LayerPlan) -> tuple[str, Range]:
        image = self._image_behind(tensor)
        if image is not None:
            return image, PIXELS
        assert plan.input is not None
        return self._quantize(tensor, plan.input), plan.input

    def _dynamic_codes(self, tensor: str) -> tuple[str, str, str]:
        """Return the tensors with codes, scale and zero point of a tensor's range."""
        tensor = self._read(tensor)
        names = [f"{tensor}.dynamic.{part}" for part in ("codes", "scale", "zero")]
        if not any(node.output[0] == names[0] for node in self.graph.nodes):
            self.graph.nodes.append(helper.make_node("DynamicQuantizeLinear", [tensor], names))
        return names[0], names[1], names[2]

    # Matrix products

    def _cuts_patches(self, place: Place) -> bool:
        """Tell whether a convolution reads each pixel once: a matrix product on patches."""
        flags = {attribute.name: list(attribute.ints) for attribute in place.node.attribute}
        sides = self.graph.shapes[place.node.input[0]][2:]
        kernel = list(place.weight.shape[2:])
        return (
            kernel == flags.get("strides")
            and kernel[0] > 1
            and not any(flags.get("pads", []))
            and place.weight.shape[1] == self.graph.shapes[place.node.input[0]][1]
            and set(flags.get("dilations", [1])) == {1}
            and all(side % taps == 0 for side, taps in zip(sides, kernel, strict=True))
        )

    def _rows(self, place: Place, plan: LayerPlan) -> None:
        """Write a Linear or a patch convolution as a product of rows ``[N, K]``."""
        source = self._source(place)
        image = self._image_behind(source)
        if plan.mode is Mode.STATIC or image is not None:
            codes, range_ = (image, PIXELS) if image else self._static_codes(source, plan)
            kernel, scales = self._weight_codes(place, range_)
            rows = self._dequantize(self._to_rows(place, codes, source), range_)
            weight = self._weight(place, _as_matrix(kernel), scales, axis=1)
            inputs = [rows, weight, *self._bias(place, range_, scales)]
            self._from_rows(place, self.graph.add("Gemm", inputs, f"{place.output}.rows"))
            return
        codes, scale, zero = self._dynamic_codes(source)
        kernel, scales = symmetric_codes(place.weight)
        weight = self.graph.constant(place.name + CODES, _as_matrix(kernel))
        inputs = [self._to_rows(place, codes, source), weight, zero]
        sums = self.graph.add("MatMulInteger", inputs, f"{place.output}.sums")
        self._from_rows(place, self._scale_sums(place, sums, scale, scales))

    def _source(self, place: Place) -> str:
        """Return what a layer reads; for a convolution the NHWC tensor behind it, if any."""
        tensor = place.node.input[0]
        node = self.graph.writers.get(tensor)
        if place.node.op_type == "Conv" and node is not None and _moves(node) == _NHWC_TO_NCHW:
            return str(node.input[0])
        return str(tensor)

    def _to_rows(self, place: Place, codes: str, source: str) -> str:
        """Cut codes into rows for a Linear, into patches for a convolution."""
        shape = self.graph.shapes[source]
        if place.node.op_type != "Conv":
            return codes if len(shape) == 2 else self._reshape(codes, (-1, shape[-1]))
        if source == place.node.input[0]:
            codes = self.graph.add("Transpose", [codes], f"{codes}.nhwc", perm=_NCHW_TO_NHWC)
        _, _, height, width = self.graph.shapes[place.output]
        _, channels, tall, wide = place.weight.shape
        cut = self._reshape(codes, (height, tall, width, wide * channels))
        cut = self.graph.add("Transpose", [cut], f"{cut}.patches", perm=[0, 2, 1, 3])
        return self._reshape(cut, (height * width, tall * wide * channels))

    def _from_rows(self, place: Place, rows: str) -> None:
        """Give the rows of a product the shape and the name of the layer's output."""
        shape = self.graph.shapes[place.output]
        if place.node.op_type == "Conv":
            _, out, height, width = shape
            maps = self._reshape(rows, (1, height, width, out))
            self.graph.add("Transpose", [maps], place.output, perm=_NHWC_TO_NCHW)
        elif len(shape) == 2:
            self.graph.add("Identity", [rows], place.output)
        else:
            self._reshape(rows, shape, place.output)

    def _reshape(self, tensor: str, shape: tuple[int, ...], output: str = "") -> str:
        text = "x".join(map(str, shape))
        wanted = self.graph.shared(f"shape.{text}", np.array(shape, np.int64))
        return self.graph.add("Reshape", [tensor, wanted], output or f"{tensor}.{text}")

    def _scale_sums(self, place: Place, sums: str, scale: str, scales: NDArray[np.float32]) -> str:
        """Turn int32 sums into float and add the bias."""
        add, name, tall = self.graph.add, place.name, (-1, 1, 1)
        is_map = len(self.graph.shapes[place.output]) == 4 and sums.endswith(".maps")
        shaped = scales.reshape(tall) if is_map else scales
        both = add("Mul", [scale, self.graph.constant(f"{name}.scales", shaped)], f"{sums}.scales")
        floats = add("Cast", [sums], f"{sums}.float", to=TensorProto.FLOAT)
        product = add("Mul", [floats, both], f"{sums}.product")
        if place.bias is None:
            return product
        bias = place.bias.reshape(tall) if is_map else place.bias
        bias_name = self.graph.constant(f"{name}.bias.float", bias)
        return add("Add", [product, bias_name], f"{sums}.biased")

    # Convolutions

    def _static_conv(self, place: Place, plan: LayerPlan) -> None:
        codes, range_ = self._static_codes(place.node.input[0], plan)
        kernel, scales = self._weight_codes(place, range_)
        inputs = [
            self._dequantize(codes, range_),
            self._weight(place, kernel, scales, axis=0),
            *self._bias(place, range_, scales),
        ]
        self._convolve("Conv", place, inputs, place.output)
        assert plan.output is not None
        tensor, output = self._behind_activation(place.output, plan.output)
        self.to_round[tensor] = self._range_of_readers(tensor) or output

    def _integer_conv(self, place: Place, codes: str, scale: str, zero: str) -> None:
        kernel, scales = symmetric_codes(place.weight)
        weight = self.graph.constant(place.name + CODES, kernel)
        sums = f"{place.output}.maps"
        self._convolve("ConvInteger", place, [codes, weight, zero], sums)
        self.graph.add("Identity", [self._scale_sums(place, sums, scale, scales)], place.output)

    def _convolve(self, op: str, place: Place, inputs: list[str], output: str) -> None:
        node = helper.make_node(op, inputs, [output], name=place.name)
        node.attribute.extend(place.node.attribute)
        self.graph.nodes.append(node)

    def _behind_activation(self, tensor: str, output: Range) -> tuple[str, Range]:
        """Return the tensor that is rounded, and its range: behind a ReLU, if there is one."""
        node = self.graph.only_reader(tensor)
        if node is None or node.op_type not in ("Relu", "Clip") or output.high <= 0:
            return tensor, output
        high = output.high
        if node.op_type == "Clip":
            low, ceiling = (self.graph.constants.get(name) for name in [*node.input, "", ""][1:3])
            if low is None or float(low) != 0:
                return tensor, output
            high = high if ceiling is None else min(high, float(ceiling))
        return node.output[0], Range(low=0.0, high=high)

    def _range_of_readers(self, tensor: str) -> Range | None:
        """Return the range in which all readers of a tensor want codes of it, if they agree."""
        wanted = set()
        for node in self.graph.readers.get(tensor, []):
            place = self.places.get(node.output[0])
            plan = None if place is None else self.plan[place.name]
            wanted.add(plan.input if plan is not None and plan.mode is Mode.STATIC else None)
        return wanted.pop() if len(wanted) == 1 else None

    # Weights

    def _weight_codes(
        self, place: Place, range_: Range
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Return codes and scales of weights, with scales that int32 biases have room in."""
        bias = np.zeros(1) if place.bias is None else np.abs(place.bias.astype(np.float64))
        return symmetric_codes(place.weight, bias / (range_.affine()[0] * _MAX_BIAS_CODE))

    def _weight(
        self, place: Place, codes: NDArray[np.int8], scales: NDArray[np.float32], *, axis: int
    ) -> str:
        """Return the tensor with dequantised weights."""
        name = place.name
        inputs = [
            self.graph.constant(name + CODES, codes),
            self.graph.constant(f"{name}.weight.scales", scales),
            self.graph.shared(f"zeros.{len(scales)}", np.zeros(len(scales), np.int8)),
        ]
        return self.graph.add("DequantizeLinear", inputs, f"{name}.weight.float", axis=axis)

    def _bias(self, place: Place, range_: Range, scales: NDArray[np.float32]) -> list[str]:
        """Return the tensor with the dequantised int32 bias, if there is a bias."""
        if place.bias is None:
            return []
        name = place.name
        steps = (np.float32(range_.affine()[0]) * scales).astype(np.float32)
        codes = np.rint(place.bias.astype(np.float64) / steps).astype(np.int32)
        inputs = [
            self.graph.constant(f"{name}.bias.codes", codes),
            self.graph.constant(f"{name}.bias.scales", steps),
            self.graph.shared(f"zeros32.{len(steps)}", np.zeros(len(steps), np.int32)),
        ]
        return [self.graph.add("DequantizeLinear", inputs, f"{name}.bias.float", axis=0)]

    def _weight_only(self, place: Place) -> None:
        kernel, scales = symmetric_codes(place.weight)
        matrix = place.node.op_type == "MatMul"
        name = self.graph.constant(place.name + CODES, kernel.T if matrix else kernel)
        shaped = scales if matrix else scales.reshape(-1, *[1] * (kernel.ndim - 1))
        floats = self.graph.add("Cast", [name], f"{name}.float", to=TensorProto.FLOAT)
        factors = self.graph.constant(f"{place.name}.weight.scales", shaped)
        weight = self.graph.add("Mul", [floats, factors], f"{place.name}.weight.float")
        node = self._copy(place.node)
        node.input[1] = weight


def _moves(node: NodeProto) -> list[int]:
    """Return the permutation of a Transpose; nothing for other nodes."""
    return list(node.attribute[0].ints) if node.op_type == "Transpose" else []


def _as_matrix(kernel: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return weights as ``[K, out]``, K in the order of NHWC patches for a convolution."""
    if kernel.ndim == 4:
        kernel = kernel.transpose(0, 2, 3, 1)
    return kernel.reshape(len(kernel), -1).T
