"""The vendors' paths by name; the one place where one is added."""

from edgefiqa.quantize.vendor.base import FloatFile, Scheme, Vendor
from edgefiqa.registry import Registry
from edgefiqa.runtimes import Format

__all__ = ["VENDORS"]

_HERE = "edgefiqa.quantize.vendor"

VENDORS: Registry[Vendor] = Registry("vendor's INT8 path")

for _vendor in (
    Vendor(
        name="onnxruntime",
        format=Format.ONNX,
        suffix=".onnx",
        schemes=(Scheme.STATIC, Scheme.DYNAMIC, Scheme.WEIGHT_ONLY),
        function=f"{_HERE}.onnxruntime:quantize",
        provides=("onnx", "onnxruntime"),
        starts_from=FloatFile(target="onnx"),
    ),
    Vendor(
        name="nncf-onnx",
        format=Format.ONNX,
        suffix=".onnx",
        schemes=(Scheme.STATIC,),
        function=f"{_HERE}.nncf_onnx:quantize",
        provides=("nncf", "onnx", "onnxruntime"),
        starts_from=FloatFile(target="onnx"),
    ),
    Vendor(
        name="ai-edge-quantizer",
        format=Format.TFLITE,
        suffix=".tflite",
        schemes=(Scheme.STATIC, Scheme.DYNAMIC, Scheme.WEIGHT_ONLY),
        function=f"{_HERE}.ai_edge_quantizer:quantize",
        provides=("ai_edge_quantizer", "ai_edge_litert", "flatbuffers"),
        starts_from=FloatFile(target="tflite"),
    ),
    Vendor(
        name="tflite-tf",
        format=Format.TFLITE,
        suffix=".tflite",
        schemes=(Scheme.STATIC, Scheme.DYNAMIC),
        function=f"{_HERE}.tflite_tf:quantize",
        provides=("tensorflow", "ai_edge_litert", "flatbuffers"),
        extra="convert",
    ),
    Vendor(
        name="xnnpack-pt2e",
        format=Format.EXECUTORCH,
        suffix=".pte",
        schemes=(Scheme.STATIC, Scheme.DYNAMIC),
        function=f"{_HERE}.xnnpack_pt2e:quantize",
        provides=("executorch", "torchao"),
        extra="convert",
    ),
    Vendor(
        name="coreml-weights",
        format=Format.COREML,
        suffix=".mlpackage",
        schemes=(Scheme.WEIGHT_ONLY,),
        function=f"{_HERE}.coreml_weights:quantize",
        provides=("coremltools",),
        extra="convert",
        starts_from=FloatFile(target="coreml", precision="fp16"),
    ),
    Vendor(
        name="coreml-palette-6bit",
        format=Format.COREML,
        suffix=".mlpackage",
        schemes=(Scheme.WEIGHT_ONLY,),
        function=f"{_HERE}.coreml_weights:palettise_to_6_bits",
        provides=("coremltools", "sklearn"),
        starts_from=FloatFile(target="coreml", precision="fp16"),
    ),
    Vendor(
        name="coreml-palette-4bit",
        format=Format.COREML,
        suffix=".mlpackage",
        schemes=(Scheme.WEIGHT_ONLY,),
        function=f"{_HERE}.coreml_weights:palettise_to_4_bits",
        provides=("coremltools", "sklearn"),
        starts_from=FloatFile(target="coreml", precision="fp16"),
    ),
    Vendor(
        name="coreml-palette-6bit-ios18",
        format=Format.COREML,
        suffix=".mlpackage",
        schemes=(Scheme.WEIGHT_ONLY,),
        function=f"{_HERE}.coreml_weights:palettise_groups_to_6_bits",
        provides=("coremltools", "sklearn"),
        extra="convert",
    ),
    Vendor(
        name="coreml-palette-4bit-ios18",
        format=Format.COREML,
        suffix=".mlpackage",
        schemes=(Scheme.WEIGHT_ONLY,),
        function=f"{_HERE}.coreml_weights:palettise_groups_to_4_bits",
        provides=("coremltools", "sklearn"),
        extra="convert",
    ),
    Vendor(
        name="coreml-pt2e",
        format=Format.COREML,
        suffix=".mlpackage",
        schemes=(Scheme.STATIC,),
        function=f"{_HERE}.coreml_pt2e:quantize",
        provides=("coremltools", "executorch", "torchao"),
        extra="convert",
    ),
    Vendor(
        name="nncf-fx",
        format=Format.TORCH,
        suffix=".pt2",
        schemes=(Scheme.STATIC,),
        function=f"{_HERE}.nncf_fx:quantize",
        provides=("nncf", "torchao"),
        runnable=False,
    ),
):
    VENDORS.add(_vendor.name, _vendor)
