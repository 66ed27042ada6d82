"""The Core ML files that ``edgefiqa study mil-rows`` measures, and how far each may drift."""

__all__ = ["ROWS"]

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
