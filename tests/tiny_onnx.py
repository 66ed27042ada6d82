"""A scorer small enough to be made and run in milliseconds, with the faults that real ones get."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgefiqa.files import sha256_of, size_of
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.preprocess import InputContract

SIDE = 16
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def write_tiny(
    path: Path,
    *,
    mean: np.ndarray = MEAN,
    std: np.ndarray = STD,
    bgr: bool = False,
    shift: int = 0,
    zero_point: int = 0,
    perturbed: float = 0.0,
    constant: float | None = None,
    size: int = SIDE,
) -> Path:
    """Write normalise → 3×3 convolution → ReLU → mean → linear, on uint8 ``[1,S,S,3]``.

    Args:
        path: The file.
        mean: Of the normalisation.
        std: Of the normalisation.
        bgr: Whether the channels are read the wrong way round.
        shift: Pixels by which the crop is off.
        zero_point: Steps of 1/127 by which the convolution's weights are off.
        perturbed: Noise on the last layer's weights, relative.
        constant: Gives this score whatever the image.
        size: Side of the input.
    """
    rng = np.random.default_rng(0)
    # Edges of each colour, so that place, colour and contrast all matter.
    kernel = rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    kernel += zero_point / 127 * np.abs(kernel).max()
    last = rng.uniform(0.01, 0.09, (8, 1)).astype(np.float32)
    last *= 1 + perturbed * np.random.default_rng(1).normal(size=last.shape).astype(np.float32)
    if constant is not None:
        last *= 0
    pixels = (
        np.roll(np.arange(size), shift)
        if not shift
        else np.clip(np.arange(size) + shift, 0, size - 1)
    )
    values = {
        "channels": np.array([2, 1, 0] if bgr else [0, 1, 2]),
        "pixels": pixels,
        "mean": (255 * mean).astype(np.float32),
        "std": (255 * std).astype(np.float32),
        "kernel": kernel,
        "last": last,
        "offset": np.array([0.2 if constant is None else constant], np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["image", "pixels"], ["cropped"], axis=1),
        helper.make_node("Gather", ["cropped", "channels"], ["ordered"], axis=3),
        helper.make_node("Cast", ["ordered"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planar"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planar", "kernel"], ["convolved"], strides=[3, 3]),
        helper.make_node("Relu", ["convolved"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "last"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["column"], axis=0),
        helper.make_node("Squeeze", ["column", "axis"], ["score"]),
    ]
    values["axis"] = np.array([0])
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size, size, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def artifact(path: Path, precision: str) -> Artifact:
    """Describe an ONNX file as a manifest does."""
    return Artifact(
        file=path.name,
        format="onnx",
        target="onnx",
        precision=precision,
        sha256=sha256_of(path),
        size_bytes=size_of(path),
        folded=[],
        structure={},
        tools={},
        parity=[],
        not_executed=[],
        seconds=0,
    )


def write_manifest(
    directory: Path, files: dict[str, str], *, weights_sha256: str = "0" * 64, size: int = SIDE
) -> Manifest:
    """Write the manifest of an export: file name → precision."""
    manifest = Manifest(
        card={"sha256": weights_sha256, "name": "tiny"},
        contract=InputContract(size=size).to_dict(),
        goldens_sha256="0" * 64,
        artifacts=[artifact(directory / name, precision) for name, precision in files.items()],
    )
    manifest.save(directory)
    return manifest
