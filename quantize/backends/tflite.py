"""TFLite: int8 weights put into the exported file, in the forms that XNNPACK has kernels for.

- dynamic: the weight of FULLY_CONNECTED or CONV_2D becomes int8, what goes in and out stays float.
  XNNPACK then rounds each row (each image, for a convolution) to 8 bits in that row's range;
- static: QUANTIZE → the operator in int8 → DEQUANTIZE. TFLite has no int8 kernel with a float
  output, so that outputs are rounded too: faster than dynamic, and less accurate;
- weights only: DEQUANTIZE of a constant, which XNNPACK does once, when it loads the file. It is the
  first choice for depthwise convolutions: their int8 kernels are no faster than those in float, and
  XNNPACK has no dynamic one, so that this mode is not offered.

The flatbuffer is edited directly: what the plan says is what is written, and each layer that cannot
be found is an error.
"""

from pathlib import Path

from edgefiqa.convert import (
    ExportScorer,
    convert_tflite,
    finish_tflite,
    pack_tflite,
    split_large_depthwise,
    unpack_tflite,
    versions,
)
from edgefiqa.manifest import FileMetadata
from edgefiqa.quantize.backends.base import Built, check_modes
from edgefiqa.quantize.backends.tflite_forms import write_plan
from edgefiqa.quantize.backends.tflite_graph import TfliteGraph, find_places
from edgefiqa.quantize.backends.tflite_kernels import read_executed
from edgefiqa.quantize.backends.weight_codes import weights_of
from edgefiqa.quantize.plan import Kind, Layer, Mode, QuantizationPlan

__all__ = ["build", "carry", "supports", "variant"]


def variant(scorer: ExportScorer) -> ExportScorer:
    """Return a copy with large depthwise convolutions split; see ``Backend``."""
    return split_large_depthwise(scorer)


def supports(layer: Layer) -> tuple[Mode, ...]:
    """Return the modes of a layer, the best first; see ``Backend``."""
    if layer.regression:
        return (Mode.FLOAT,)
    if layer.kind is Kind.DEPTHWISE:
        return (Mode.WEIGHT, Mode.STATIC, Mode.FLOAT)
    return (Mode.DYNAMIC, Mode.STATIC, Mode.WEIGHT, Mode.FLOAT)


def build(
    scorer: ExportScorer, plan: QuantizationPlan, *, size: int, path: Path, metadata: FileMetadata
) -> Built:
    """Write a ``.tflite`` file; see ``Backend``."""
    check_modes(plan, supports, "TFLite")
    content, folded = convert_tflite(scorer, size=size)
    content, notes = finish_tflite(carry(content, scorer, plan), metadata, folded)
    path.write_bytes(content)
    layers, delegation = read_executed(path, plan)
    return Built(
        tools=versions("torch", "litert-torch", "ai-edge-litert"),
        structure=notes.structure | delegation,
        layers=layers,
    )


def carry(content: bytes, scorer: ExportScorer, plan: QuantizationPlan) -> bytes:
    """Put a plan into an exported file.

    Args:
        content: The flatbuffer that was converted from the scorer.
        scorer: The scorer.
        plan: A mode for each of its layers; all float changes nothing.

    Returns:
        The flatbuffer.

    Raises:
        ArtifactError: If a layer cannot be found in the file.
    """
    if not plan.in_mode(Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT):
        return content
    graph = TfliteGraph(unpack_tflite(content))
    # Every layer is searched, so that equal weights are told apart by their order.
    places = find_places(graph, weights_of(scorer, [planned.layer.name for planned in plan.layers]))
    write_plan(graph, places, plan, scorer)
    graph.finish()
    return pack_tflite(graph.model)
