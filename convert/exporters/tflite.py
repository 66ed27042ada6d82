"""TFLite through LiteRT Torch, and what every ``.tflite`` gets: names, metadata, op counts."""

import warnings
from pathlib import Path

from edgefiqa.convert.exporters.base import Notes, count_ops, example_image, versions
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.manifest import FileMetadata
from edgefiqa.runtimes.base import METADATA_KEY

__all__ = ["export", "finish"]


def finish(content: bytes, metadata: FileMetadata) -> tuple[bytes, Notes]:
    """Name input and output, write the metadata into a ``.tflite``, and count its operators.

    Args:
        content: A TFLite flatbuffer with one subgraph, one input and one output.
        metadata: Goes into the metadata buffer named ``edgefiqa``.

    Returns:
        The flatbuffer, and notes with the operator counts.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.description = f"{metadata.name} {metadata.precision}".encode()
    graph = model.subgraphs[0]
    for index, name in ((graph.inputs[0], b"image"), (graph.outputs[0], b"score")):
        graph.tensors[index].name = name
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(metadata.model_dump_json().encode())
    model.buffers.append(buffer)
    entry.name, entry.buffer = METADATA_KEY.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    ops = (names[codes[op.opcodeIndex]] for op in graph.operators)
    return bytes(builder.Output()), Notes(structure=count_ops(ops))


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write a ``.tflite`` file; see ``Exporter``."""
    with warnings.catch_warnings():  # its dependencies' deprecation notices
        warnings.simplefilter("ignore")
        import litert_torch

        edge_model = litert_torch.convert(scorer, (example_image(size),))
        raw = path.with_suffix(".raw.tflite")
        edge_model.export(str(raw))
    content, notes = finish(raw.read_bytes(), metadata)
    raw.unlink()
    path.write_bytes(content)
    notes.tools = versions("torch", "litert-torch", "ai-edge-litert")
    return notes
