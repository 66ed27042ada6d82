"""ONNX through torch.export: one file, weights inside."""

from pathlib import Path

import onnx
import torch

from edgefiqa.convert.exporters.base import Notes, count_ops, example_image, versions
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY

__all__ = ["OPSET", "export"]

OPSET = 18
"""The oldest opset with every operator used here: ONNX Runtime 1.14 and later runs it."""


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write an ``.onnx`` file; see ``Exporter``."""
    program = torch.onnx.export(
        scorer,
        (example_image(size),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["score"],
        verbose=False,
    )
    if program is None:
        msg = "torch.onnx.export(dynamo=True) returned no program"
        raise RuntimeError(msg)
    program.optimize()
    model = program.model_proto
    model.producer_name, model.producer_version = metadata.producer.split()
    model.doc_string = f"{metadata.name}: {metadata.model}, {size}x{size}, {metadata.precision}"
    for node in model.graph.node:  # stack traces of the exporting machine
        del node.metadata_props[:]
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return Notes(
        folded=scorer.folded,
        structure={"opset": opset} | count_ops(node.op_type for node in model.graph.node),
        tools=versions("torch", "onnx", "onnxscript"),
    )
