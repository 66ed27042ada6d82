"""What every quantised ``.mlpackage`` gets: metadata, no stray files, operator counts."""

from pathlib import Path
from typing import Any

from edgefiqa.convert.exporters.base import count_ops
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY

__all__ = ["finish"]

_STRAY_FILE = "executorch_debug_handle_mapping.json"


def finish(model: Any, path: Path, metadata: FileMetadata) -> dict[str, Any]:
    """Write a Core ML model with our metadata.

    Args:
        model: A ``coremltools.models.MLModel`` that holds an ML Program.
        path: Where to write.
        metadata: Goes into its user-defined metadata.

    Returns:
        Opset and operator counts, constants left out.
    """
    size = metadata.contract["size"]
    model.short_description = f"{metadata.name}: face image quality, {size}x{size}"
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
