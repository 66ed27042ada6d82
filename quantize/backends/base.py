"""What a backend is given and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgefiqa.convert import ExportScorer
from edgefiqa.errors import UsageError
from edgefiqa.manifest import FileMetadata
from edgefiqa.quantize.plan import Layer, Mode, QuantizationPlan

__all__ = ["Backend", "Built", "LayerExecution", "check_modes"]


@dataclass(frozen=True, kw_only=True)
class LayerExecution:
    """How one layer is executed, as read back from the file.

    Attributes:
        name: Its dotted name in the scorer that was given.
        mode: What its multiply really is.
        macs: Multiply-adds of one image.
        reason: Why it is not what the plan says; empty where it is.
    """

    name: str
    mode: Mode
    macs: int
    reason: str = ""


@dataclass(kw_only=True)
class Built:
    """What there is to say about a quantised file.

    Attributes:
        tools: Packages involved, with versions.
        structure: Operators and partitions, for the manifest.
        layers: Every layer of the plan, in its order.
    """

    tools: dict[str, str]
    structure: dict[str, Any]
    layers: list[LayerExecution]


class Backend(Protocol):
    """What each module of this package offers as functions."""

    def variant(self, scorer: ExportScorer) -> ExportScorer:
        """Return the network whose layers are planned: rewritten exactly, where the format needs.

        Args:
            scorer: The prepared network; it is not changed.
        """
        ...

    def supports(self, layer: Layer) -> tuple[Mode, ...]:
        """Return the modes that a layer may be given, the best first."""
        ...

    def build(
        self,
        scorer: ExportScorer,
        plan: QuantizationPlan,
        *,
        size: int,
        path: Path,
        metadata: FileMetadata,
    ) -> Built:
        """Write one quantised scorer file.

        Args:
            scorer: The network, as ``variant`` returned it, uint8 ``[1, S, S, 3]`` → float32
                ``[1]``. Weights of int8 layers lie on their grid: code · scale an output channel,
                127 among the magnitudes of the codes.
            plan: A mode for each of its layers.
            size: S, in pixels.
            path: Where to write; its suffix is the format's.
            metadata: To be written into the file.

        Raises:
            UsageError: If the plan asks for a mode that the format does not have for that layer.
            ArtifactError: If a layer of the plan cannot be found in the exported file.
        """
        ...


def check_modes(
    plan: QuantizationPlan, supports: Callable[[Layer], tuple[Mode, ...]], format_name: str
) -> None:
    """Refuse a plan with a mode that a format does not have.

    Raises:
        UsageError: Naming the layer.
    """
    for planned in plan.layers:
        allowed = supports(planned.layer)
        if planned.mode not in allowed:
            raise UsageError(
                f"{format_name} has no mode {planned.mode!s} for this {planned.layer.kind!s} layer",
                value=planned.layer.name,
                allowed=", ".join(allowed),
                next_step="give its block another mode in the recipe",
            )
