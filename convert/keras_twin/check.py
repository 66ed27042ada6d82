"""The twin against the torch module, layer by layer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefiqa.convert.keras_twin.backend import load_keras
from edgefiqa.convert.keras_twin.graph import Watched
from edgefiqa.convert.keras_twin.twin import TwinModel
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.errors import ParityError

__all__ = ["LAYER_TOLERANCE", "LayerDifference", "check_twin"]

LAYER_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """How far one layer of the twin is from torch.

    Attributes:
        name: The torch module's name; ``score`` for the result.
        max_abs_error: Largest difference between two elements.
        scale: Largest magnitude in torch's output.
    """

    name: str
    max_abs_error: float
    scale: float

    @property
    def relative_error(self) -> float:
        """Largest difference in units of the layer's largest value."""
        return self.max_abs_error / max(self.scale, 1e-12)


def check_twin(
    export_model: ExportScorer,
    twin: TwinModel,
    image: NDArray[np.uint8] | None = None,
    *,
    tolerance: float = LAYER_TOLERANCE,
) -> list[LayerDifference]:
    """Run both on one image and compare every watched layer, then the score.

    Args:
        export_model: The prepared torch module that the twin was built from.
        twin: The twin.
        image: uint8 ``[1, S, S, 3]``; a fixed random image if None.
        tolerance: Largest difference allowed, in units of the layer's largest value.

    Returns:
        One record a layer, in the order of execution.

    Raises:
        ParityError: If a layer differs by more; it names the first that does.
    """
    if image is None:
        shape = (1, twin.size, twin.size, 3)
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted = _torch_activations(export_model, image, set(twin.watched))
    records = [
        _compare(name, wanted[name], got, channels_first)
        for name, got, channels_first in _twin_activations(twin, image)
    ]
    for record in records:
        if not record.relative_error <= tolerance:  # NaN is not within any tolerance
            raise ParityError(
                f"the Keras twin differs from torch first at layer {record.name!r}",
                value=f"error {record.max_abs_error:.3g} at scale {record.scale:.3g}",
                allowed=f"{tolerance:g} of the layer's largest value",
                next_step="--to tflite converts without the twin",
            )
    return records


def _torch_activations(
    model: ExportScorer, image: NDArray[np.uint8], names: set[str]
) -> dict[str, Tensor]:
    """Return the outputs of the named modules, and the score."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            found[name] = output.detach().clone()  # a later in-place activation may change it

        return hook

    modules = dict(model.named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in names - {"score"}]
    try:
        with torch.no_grad():
            found["score"] = model(torch.from_numpy(image))
    finally:
        for handle in hooks:
            handle.remove()
    return found


def _twin_activations(
    twin: TwinModel, image: NDArray[np.uint8]
) -> list[tuple[str, NDArray[np.float32], bool]]:
    """Return name, value and whether torch's value is channels-first, layer by layer."""
    watched = {**twin.watched, "score": Watched(tensor=twin.model.outputs[0], channels_first=False)}
    probe = load_keras().Model(twin.model.inputs[0], [entry.tensor for entry in watched.values()])
    return [
        (name, np.asarray(value), entry.channels_first)
        for (name, entry), value in zip(watched.items(), probe(image), strict=True)
    ]


def _compare(
    name: str, wanted: Tensor, got: NDArray[np.float32], channels_first: bool
) -> LayerDifference:
    if channels_first and wanted.dim() == 4:
        wanted = wanted.permute(0, 2, 3, 1)
    expected = wanted.numpy()
    return LayerDifference(
        name=name,
        max_abs_error=float(np.abs(expected - got.reshape(expected.shape)).max()),
        scale=float(np.abs(expected).max()),
    )
