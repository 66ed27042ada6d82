"""The inputs and outputs of a model as ``MLModel.predict`` takes and gives them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from edgefiqa.errors import UnsupportedOp, UsageError
from edgefiqa.runtimes.mil.call import TensorType, Value

__all__ = ["Feature", "read_features", "take_inputs", "to_output"]

_MODES = {10: "L", 20: "RGB", 30: "BGR", 40: "F"}
"""Colour layouts by the numbers of FeatureTypes.proto; "F" is grayscale in float16."""

_ARRAYS = {65600: np.float64, 65568: np.float32, 65552: np.float16, 131104: np.int32}
"""Array types by those numbers."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A named input or output.

    Attributes:
        name: Its name.
        image: The colour layout if it is an image, else an empty string.
        size: Width and height of an image.
        dtype: Element type of an array.
    """

    name: str
    image: str = ""
    size: tuple[int, int] = (0, 0)
    dtype: Any = np.float32


def read_features(description: Any) -> list[Feature]:
    """Read the inputs or outputs of a model's description."""
    found = []
    for feature in description:
        kind = feature.type.WhichOneof("Type")
        if kind == "imageType":
            image = feature.type.imageType
            size = (int(image.width), int(image.height))
            layout = _MODES.get(int(image.colorSpace), "")
            found.append(Feature(name=feature.name, image=layout, size=size))
        elif kind == "multiArrayType":
            dtype = _ARRAYS.get(int(feature.type.multiArrayType.dataType), np.float32)
            found.append(Feature(name=feature.name, dtype=dtype))
        else:
            raise UnsupportedOp(f"feature {feature.name}", reason=f"of type {kind}")
    return found


def _from_image(feature: Feature, value: Any) -> NDArray[Any]:
    wanted = {"BGR": "RGB"}.get(feature.image, feature.image)
    if not isinstance(value, Image.Image) or value.mode != wanted or value.size != feature.size:
        found = (
            f"{value.mode} {value.size}" if isinstance(value, Image.Image) else type(value).__name__
        )
        raise UsageError(
            f"the input {feature.name!r} is not the image the model takes",
            value=found,
            allowed=f"a PIL image, mode {wanted}, {feature.size[0]}x{feature.size[1]}",
        )
    pixels = np.asarray(value, np.float32)
    if pixels.ndim == 2:
        return pixels[None, None]
    if feature.image == "BGR":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _from_array(feature: Feature, declared: TensorType, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.size == 1 and len(declared.shape) <= 1:  # Core ML has no scalars
        array = array.reshape([1] * len(declared.shape))
    fits = len(array.shape) == len(declared.shape) and all(
        want is None or have == want for have, want in zip(array.shape, declared.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "fiub":
        shape = ", ".join("any" if size is None else str(size) for size in declared.shape)
        raise UsageError(
            f"the input {feature.name!r} has the wrong type or shape",
            value=f"{array.dtype} {list(array.shape)}",
            allowed=f"{declared.dtype} [{shape}]",
        )
    return array


def take_inputs(
    features: list[Feature], declared: list[TensorType], given: Mapping[str, Any]
) -> list[Tensor]:
    """Turn the caller's inputs into carried values, in the program's order.

    Raises:
        UsageError: If one is missing, unknown, or not what the model takes.
    """
    by_name = {feature.name: feature for feature in features}
    if set(given) != set(by_name):
        raise UsageError(
            "the inputs are not those of the model",
            value=", ".join(sorted(given)) or "none",
            allowed=", ".join(by_name),
        )
    values = []
    for type_ in declared:
        feature = by_name[type_.name]
        if feature.image:
            array = _from_image(feature, given[type_.name])
        else:
            array = _from_array(feature, type_, given[type_.name])
        target = np.float32 if type_.dtype in ("fp16", "fp32") else np.int32
        values.append(torch.from_numpy(np.array(array, target)))
    return values


def to_output(feature: Feature, value: Value) -> Any:
    """Turn a carried value into what ``MLModel.predict`` gives: an array or a PIL image."""
    if isinstance(value, str):
        return value
    array: NDArray[Any] = value.contiguous().numpy()
    if feature.image:
        pixels = np.rint(array.reshape(array.shape[-3:]).clip(0, 255)).astype(np.uint8)
        if feature.image == "BGR":
            pixels = pixels[::-1]
        return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    array = array.astype(feature.dtype)
    return array.reshape(1) if array.ndim == 0 else array
