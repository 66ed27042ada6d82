"""TFLite through LiteRT Torch, and what every ``.tflite`` gets: names, metadata, op counts."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from edgefiqa.convert.exporters.base import Notes, count_ops, example_image, versions
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.convert.tflite_file import add_metadata, name_interface, operator_names, pack, unpack
from edgefiqa.convert.xnnpack import split_large_depthwise
from edgefiqa.manifest import FileMetadata

__all__ = ["convert", "export", "finish"]


def finish(content: bytes, metadata: FileMetadata, folded: list[str]) -> tuple[bytes, Notes]:
    """Name input and output, write the metadata into a ``.tflite``, and count its operators.

    Args:
        content: A TFLite flatbuffer with one subgraph, one input and one output.
        metadata: Goes into the metadata buffer named ``edgefiqa``.
        folded: The exact rewrites that are in it.

    Returns:
        The flatbuffer, and notes with the operator counts.
    """
    model = unpack(content)
    model.description = f"{metadata.name} {metadata.precision}"
    name_interface(model)
    add_metadata(model, metadata.model_dump_json())
    return pack(model), Notes(folded=folded, structure=count_ops(operator_names(model)))


def convert(scorer: ExportScorer, *, size: int) -> tuple[bytes, list[str]]:
    """Convert through LiteRT Torch.

    Args:
        scorer: The prepared network: uint8 ``[1, S, S, 3]`` → float32 ``[1]``.
        size: S, in pixels.

    Returns:
        The flatbuffer without our names and metadata, and the exact rewrites that are in it.
    """
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # its dependencies' deprecation notices
        import litert_torch

        split = split_large_depthwise(scorer)
        edge_model = litert_torch.convert(split, (example_image(size),))
        raw = Path(folder) / "raw.tflite"
        edge_model.export(str(raw))
        return raw.read_bytes(), split.folded


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write a ``.tflite`` file; see ``Exporter``."""
    raw, folded = convert(scorer, size=size)
    content, notes = finish(raw, metadata, folded)
    path.write_bytes(content)
    notes.tools = versions("torch", "litert-torch", "ai-edge-litert")
    return notes
