"""What a demo is made with; the command takes the defaults."""

from dataclasses import dataclass, field
from pathlib import Path

from edgefiqa.benchmarks import LatencyRules

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much a demo does.

    Attributes:
        targets: Formats, as ``edgefiqa convert --to`` takes them.
        size: Input side in pixels; None takes the card's.
        recipe: Recipe of the INT8 files, as ``edgefiqa quantize --recipe`` takes it.
        policy: Policy of the report's gate.
        photographs: At most so many of a folder, evenly spaced.
        held_back_share: Share of the photographs that is kept for the evaluation.
        calibration: Images that INT8 ranges come from, at most.
        evaluation: Images that every file is scored on, at most.
        threshold: A score of at least this counts as accepted.
        rules: Rules of the latency. As many rounds as a 99 % interval of ratios needs.
    """

    targets: str = "onnx,tflite,tflite-tf,executorch,coreml"
    size: int | None = None
    recipe: str | Path = "mixed_w8a8_srcc"
    policy: str = "quantised"
    photographs: int = 100
    held_back_share: float = 0.4
    calibration: int = 64
    evaluation: int = 160
    threshold: float = 0.5
    rules: LatencyRules = field(
        default_factory=lambda: LatencyRules(rounds=8, turns=8, min_count=192, min_seconds=2.0)
    )
