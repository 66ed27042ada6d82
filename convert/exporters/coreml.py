"""Core ML: an ML Program that takes an RGB image."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgefiqa.convert.exporters.base import Notes, count_ops, versions
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY
from edgefiqa.runtimes.imports import import_coremltools

__all__ = ["export", "remove_aliases"]

_STRAY_FILE = "executorch_debug_handle_mapping.json"


class _ImageInput(nn.Module):
    """The scorer as Core ML feeds it: float pixels 0..255, ``[1, 3, S, S]``."""

    def __init__(self, scorer: ExportScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, image: Tensor) -> Tensor:
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


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write an ``.mlpackage`` (iOS 16 and later) in float16 or float32; see ``Exporter``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ct = import_coremltools()
        exported = torch.export.export(
            _ImageInput(scorer).eval(), (torch.zeros(1, 3, size, size),)
        ).run_decompositions({})
        remove_aliases(exported)
        model = ct.convert(
            exported,
            inputs=[
                ct.ImageType(
                    name="image", shape=(1, 3, size, size), color_layout=ct.colorlayout.RGB
                )
            ],
            outputs=[ct.TensorType(name="score", dtype=np.float32)],
            compute_precision=ct.precision(metadata.precision.replace("fp", "float")),
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        )
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
    ops = (op.type for op in block.operations if op.type != "const")
    return Notes(
        folded=scorer.folded,
        structure={"deployment_target": "iOS16", "mil_opset": function.opset} | count_ops(ops),
        tools=versions("torch", "coremltools"),
    )
