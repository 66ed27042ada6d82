"""The formats that can be quantised; the one place a new backend is added."""

from dataclasses import dataclass

from edgefiqa.registry import Registry
from edgefiqa.runtimes import Format

__all__ = ["FORMATS", "QuantizedFormat"]


@dataclass(frozen=True, kw_only=True)
class QuantizedFormat:
    """One format.

    Attributes:
        name: What users type.
        format: The kind of file.
        target: The ``--to`` name of its float file in an export.
        backend: Module with ``variant``, ``supports`` and ``build``.
        suffix: The file's ending.
        vendors: The vendor's plain paths that it is compared with.
        provides: Top-level packages of the extra.
        round_outputs: Whether its static layers write 8 bits too.
    """

    name: str
    format: Format
    target: str
    backend: str
    suffix: str
    vendors: tuple[str, ...]
    provides: tuple[str, ...]
    round_outputs: bool = True


FORMATS: Registry[QuantizedFormat] = Registry("format to quantise")

for _format in (
    QuantizedFormat(
        name="onnx",
        format=Format.ONNX,
        target="onnx",
        backend="edgefiqa.quantize.backends.onnx",
        suffix=".onnx",
        vendors=("onnxruntime", "nncf-onnx"),
        provides=("onnx", "onnxruntime", "onnxscript"),
    ),
    QuantizedFormat(
        name="tflite",
        format=Format.TFLITE,
        target="tflite",
        backend="edgefiqa.quantize.backends.tflite",
        suffix=".tflite",
        vendors=("ai-edge-quantizer", "tflite-tf"),
        provides=("ai_edge_quantizer", "ai_edge_litert", "litert_torch"),
    ),
    QuantizedFormat(
        name="executorch",
        format=Format.EXECUTORCH,
        target="executorch",
        backend="edgefiqa.quantize.backends.executorch",
        suffix=".pte",
        vendors=("xnnpack-pt2e",),
        provides=("executorch",),
    ),
    QuantizedFormat(
        name="coreml",
        format=Format.COREML,
        target="coreml",
        backend="edgefiqa.quantize.backends.coreml",
        suffix=".mlpackage",
        vendors=(),  # coreml-pt2e had not finished after eight minutes on a small network
        provides=("coremltools",),
        round_outputs=False,
    ),
):
    FORMATS.add(_format.name, _format)
