"""What every quantised ``.onnx`` file gets: metadata, a check, operator counts."""

from pathlib import Path
from typing import Any

import onnx

from edgefiqa.convert import count_ops
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY

__all__ = ["finish"]


def finish(model: onnx.ModelProto, path: Path, metadata: FileMetadata) -> dict[str, Any]:
    """Write a quantised model with our metadata in place of what it brought along.

    Args:
        model: The model; its weights are inside.
        path: Where to write.
        metadata: Goes into its ``metadata_props``.

    Returns:
        Opset and operator counts.
    """
    size = metadata.contract["size"]
    model.producer_name, model.producer_version = metadata.producer.split()
    model.doc_string = f"{metadata.name}: {metadata.model}, {size}x{size}, {metadata.precision}"
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return {"opset": opset} | count_ops(node.op_type for node in model.graph.node)
