"""Core ML: an ML Program that takes an RGB image."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefiqa.convert.exporters.base import Notes, count_ops, versions
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["ImageInput", "convert", "export", "finish", "remove_aliases"]

_TARGET = "iOS16"
_STRAY_FILE = "executorch_debug_handle_mapping.json"


class ImageInput(nn.Module):
    """The scorer as Core ML feeds it: float pixels 0..255, ``[1, 3, S, S]``."""

    def __init__(self, scorer: ExportScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, image: Tensor) -> Tensor:
        """Score: float32 ``[1, 3, S, S]`` → float32 ``[1]``."""
        return self.scorer.forward_nchw(image)


def remove_aliases(program: torch.export.ExportedProgram) -> None:
    """Remove nodes that only rename their input: coremltools 9 does not know ``aten.alias``."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    graph.lint()
    program.graph_module.recompile()


def convert(module: nn.Module, *, size: int, target: str, precision: str = "float16") -> Any:
    """Convert what takes an image to an ML Program.

    Args:
        module: float pixels 0..255, ``[1, 3, S, S]`` → float32 ``[1]``, in evaluation mode.
        size: S, in pixels.
        target: The oldest system that is to run it ("iOS16").
        precision: Precision of its arithmetic: float16 or float32.

    Returns:
        A ``coremltools.models.MLModel``, not loaded into Core ML.
    """
    ct = import_coremltools()
    shape = (1, 3, size, size)
    program = torch.export.export(module, (torch.zeros(shape),)).run_decompositions({})
    remove_aliases(program)
    image = ct.ImageType(name="image", shape=shape, color_layout=ct.colorlayout.RGB)
    return ct.convert(
        program,
        inputs=[image],
        outputs=[ct.TensorType(name="score", dtype=np.float32)],
        compute_precision=ct.precision(precision),
        minimum_deployment_target=ct.target[target],
        skip_model_load=True,
    )


def finish(model: Any, path: Path, metadata: FileMetadata, *, size: int) -> dict[str, Any]:
    """Write a Core ML model with our metadata, and nothing else beside it.

    Args:
        model: A ``coremltools.models.MLModel`` that holds an ML Program.
        path: Where to write.
        metadata: Goes into its user-defined metadata.
        size: S, in pixels, for its description.

    Returns:
        Opset and operator counts, constants left out.
    """
    model.short_description = (
        f"{metadata.name}: face image quality, {size}x{size}, higher is better"
    )
    model.author = metadata.producer
    model.license = metadata.licence
    model.version = metadata.version
    model.user_defined_metadata[METADATA_KEY] = metadata.model_dump_json()
    model.save(str(path))
    for stray in path.rglob(_STRAY_FILE):
        stray.unlink()
    function = model.get_spec().mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    names = (operation.type for operation in block.operations if operation.type != "const")
    return {"mil_opset": function.opset} | count_ops(names)


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write an ``.mlpackage`` (iOS 16 and later) in float16 or float32; see ``Exporter``."""
    precision = metadata.precision.replace("fp", "float")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert(ImageInput(scorer).eval(), size=size, target=_TARGET, precision=precision)
        structure = finish(model, path, metadata, size=size)
    return Notes(
        folded=scorer.folded,
        structure={"deployment_target": _TARGET} | structure,
        tools=versions("torch", "coremltools"),
    )
