"""ONNX: standard operators, in the forms that ONNX Runtime fuses into its int8 kernels.

What is written is found again in the optimised graph as one int8 kernel a layer:

- Linear, static: QuantizeLinear → DequantizeLinear → Gemm with int8 weights and an int32 bias, on
  rows ``[N, K]``. It becomes QGemm, which gives float: outputs are not quantised;
- a convolution that cuts its input into patches (kernel = stride, no padding): the same on patches.
  The uint8 image itself serves as codes, of scale 1;
- other convolutions, static: input and output quantised, QLinearConv. Output codes are written
  behind a ReLU, and in the range of their reader where all readers ask for one;
- a convolution of pixels that overlaps, static: ConvInteger on the pixels, which gives float;
- dynamic: DynamicQuantizeLinear → MatMulInteger, which becomes DynamicQuantizeMatMul: one range a
  tensor; ConvInteger for convolutions;
- weights only: Cast and Mul of a constant, which ONNX Runtime folds when it loads the file. A
  DequantizeLinear would become MatMulNBits, which took 1.6 × the time of float.

Codes are uint8 activations × int8 weights of all 8 bits. x86 processors without VNNI add pairs of
such products in saturating 16 bits; ONNX Runtime avoids it there, at the price of speed, with the
session option ``session.x64quantprecision = 1``. Nothing in a file can ask for that.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from edgefiqa.convert import ExportScorer, count_ops, export_onnx, versions
from edgefiqa.manifest import FileMetadata
from edgefiqa.quantize.backends.base import Built, check_modes
from edgefiqa.quantize.backends.onnx_forms import write_plan
from edgefiqa.quantize.backends.onnx_graph import Graph, find_places
from edgefiqa.quantize.backends.onnx_kernels import read_executed
from edgefiqa.quantize.backends.weight_codes import weights_of
from edgefiqa.quantize.plan import Kind, Layer, Mode, QuantizationPlan

__all__ = ["build", "carry", "supports", "variant"]


def variant(scorer: ExportScorer) -> ExportScorer:
    """Return the network as it is; see ``Backend``."""
    return scorer


def supports(layer: Layer) -> tuple[Mode, ...]:
    """Return the modes of a layer, the best first; see ``Backend``.

    Depthwise convolutions are fastest in float, for which ONNX Runtime has blocked kernels, and
    ConvInteger is slower than float: it is for those who want no calibration.
    """
    if layer.regression:
        return (Mode.FLOAT,)
    if layer.kind is Kind.DEPTHWISE:
        return (Mode.WEIGHT, Mode.STATIC, Mode.FLOAT)
    return (Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT, Mode.FLOAT)


def build(
    scorer: ExportScorer, plan: QuantizationPlan, *, size: int, path: Path, metadata: FileMetadata
) -> Built:
    """Write an ``.onnx`` file; see ``Backend``."""
    check_modes(plan, supports, "ONNX")
    with TemporaryDirectory() as folder:
        exported = Path(folder) / "float.onnx"
        notes = export_onnx(scorer, size=size, path=exported, metadata=metadata)
        model = onnx.load(str(exported))
    carry(model, scorer, plan)
    onnx.save_model(model, str(path))
    operators = count_ops(node.op_type for node in model.graph.node)
    return Built(
        tools=notes.tools | versions("onnxruntime"),
        structure={"opset": notes.structure["opset"]} | operators,
        layers=read_executed(path, plan),
    )


def carry(model: onnx.ModelProto, scorer: ExportScorer, plan: QuantizationPlan) -> None:
    """Put a plan into an exported model, in place.

    Args:
        model: What the exporter wrote for the scorer.
        scorer: The scorer.
        plan: A mode for each of its layers; all float changes nothing.

    Raises:
        ArtifactError: If a layer cannot be found in the model.
    """
    quantised = [planned.layer.name for planned in plan.layers if planned.mode is not Mode.FLOAT]
    if not quantised:
        return
    graph = Graph(model)
    # Every layer is searched, so that equal weights are told apart by their order.
    places = find_places(graph, weights_of(scorer, [planned.layer.name for planned in plan.layers]))
    write_plan(graph, places, plan)
    graph.finish()
    onnx.checker.check_model(model, full_check=True)
