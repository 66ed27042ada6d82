"""What ``--to`` accepts; the one place a new format is added."""

from dataclasses import dataclass

from edgefiqa.errors import UsageError
from edgefiqa.registry import Registry
from edgefiqa.runtimes import Format

__all__ = ["TARGETS", "ExportTarget", "parse_targets"]


@dataclass(frozen=True, kw_only=True)
class ExportTarget:
    """One way to export.

    Attributes:
        name: What users type.
        format: The kind of file it writes.
        exporter: ``module:function``, imported in the worker that runs it.
        suffix: The file's ending.
        precisions: Each gives one file.
        extra: The extra that installs what it needs.
        provides: Top-level packages of that extra.
        tag: Put into the file name where two targets share format and precision.
    """

    name: str
    format: Format
    exporter: str
    suffix: str
    precisions: tuple[str, ...] = ("fp32",)
    extra: str = "convert"
    provides: tuple[str, ...] = ()
    tag: str = ""

    def file_name(self, model: str, size: int, precision: str) -> str:
        """Return the name of an exported file, for example ``student_288_fp32.tflite``."""
        return "_".join(filter(None, (model, str(size), precision, self.tag))) + self.suffix


TARGETS: Registry[ExportTarget] = Registry("export format")

for _target in (
    ExportTarget(
        name="onnx",
        format=Format.ONNX,
        exporter="edgefiqa.convert.exporters.onnx:export",
        suffix=".onnx",
        provides=("onnx", "onnxscript"),
    ),
    ExportTarget(
        name="tflite",
        format=Format.TFLITE,
        exporter="edgefiqa.convert.exporters.tflite:export",
        suffix=".tflite",
        provides=("litert_torch", "ai_edge_litert", "flatbuffers"),
    ),
    ExportTarget(
        name="tflite-tf",
        format=Format.TFLITE,
        exporter="edgefiqa.convert.exporters.tflite_tf:export",
        suffix=".tflite",
        provides=("tensorflow", "ai_edge_litert", "flatbuffers"),
        tag="tf",
    ),
    ExportTarget(
        name="executorch",
        format=Format.EXECUTORCH,
        exporter="edgefiqa.convert.exporters.executorch:export",
        suffix=".pte",
        provides=("executorch",),
    ),
    ExportTarget(
        name="executorch-coreml",
        format=Format.EXECUTORCH,
        exporter="edgefiqa.convert.exporters.executorch:export_coreml_delegate",
        suffix=".pte",
        precisions=("fp16",),
        provides=("executorch", "coremltools"),
        tag="coreml",
    ),
    ExportTarget(
        name="coreml",
        format=Format.COREML,
        exporter="edgefiqa.convert.exporters.coreml:export",
        suffix=".mlpackage",
        precisions=("fp16", "fp32"),
        provides=("coremltools",),
    ),
):
    TARGETS.add(_target.name, _target)


def parse_targets(text: str) -> list[ExportTarget]:
    """Read the value of ``--to``: names separated by commas.

    Raises:
        UnknownNameError: If a name is unknown.
        UsageError: If there is none, or one twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError(
            "--to needs one or more formats, each once",
            value=repr(text),
            allowed=", ".join(TARGETS.names()),
            next_step="for example --to onnx,tflite",
        )
    return [TARGETS.get(name) for name in names]
