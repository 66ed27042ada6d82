"""What ``edgefiqa study mil-rows`` and ``mil-conformance`` can be asked for; light to import."""

from enum import StrEnum

__all__ = ["ROWS", "OpTestPrecision"]

ROWS: dict[str, float | None] = {
    "float16": 0.0005,
    "coreml-weights": 0.001,
    "coreml-palette-6bit": None,
    "coreml-palette-4bit": None,
    "coreml-palette-6bit-ios18": None,
    "coreml-palette-4bit-ios18": None,
    "weight_only_w8": 0.001,
    "mixed_w8a8_srcc": 0.002,
}
"""Row → largest |ΔSRCC| to the float model; None only reports it."""


class OpTestPrecision(StrEnum):
    """Precision of coremltools' op tests."""

    FP16 = "fp16"
    FP32 = "fp32"
    BOTH = "both"

    @property
    def single(self) -> tuple[str, ...]:
        """The precisions that are run, one after the other."""
        if self is not OpTestPrecision.BOTH:
            return (self.value,)
        return (OpTestPrecision.FP16.value, OpTestPrecision.FP32.value)
