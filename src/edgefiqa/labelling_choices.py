"""What may be chosen when a model labels photographs.

Kept apart from the stage that does it, so that the command line can list the choices without torch.
"""

from enum import StrEnum

__all__ = ["Engine", "ScoringPrecision", "TeacherRuntime"]


class Engine(StrEnum):
    """What spreads the chunks over processes."""

    LOCAL = "local"  # of this machine
    RAY = "ray"  # of this machine or of a cluster


class ScoringPrecision(StrEnum):
    """What the networks compute in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"  # by autocast; faster where the processor has instructions for it


class TeacherRuntime(StrEnum):
    """What executes a trained teacher."""

    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"  # CPUs only, float32
