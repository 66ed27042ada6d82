"""TFLite through TensorFlow: a Keras twin with the torch weights, and TFLiteConverter."""

from pathlib import Path

from edgefiqa.convert.exporters.base import Notes, versions
from edgefiqa.convert.exporters.tflite import finish
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.convert.xnnpack import split_large_depthwise
from edgefiqa.manifest import FileMetadata

__all__ = ["export"]


def export(scorer: ExportScorer, *, size: int, path: Path, metadata: FileMetadata) -> Notes:
    """Write a ``.tflite`` file; see ``Exporter``.

    Raises:
        ParityError: If a layer of the twin does not say what the torch layer says.
        UsageError: If the architecture has no twin.
    """
    from edgefiqa.convert.keras_twin import build_twin, check_twin, convert_twin

    # The twin splits large depthwise convolutions itself; only the note is taken from the copy.
    twin = build_twin(scorer, size)
    layers = check_twin(scorer, twin)
    content, notes = finish(convert_twin(twin), metadata, split_large_depthwise(scorer).folded)
    path.write_bytes(content)
    notes.structure["layers_checked"] = len(layers)
    notes.structure["max_layer_error"] = max(layer.relative_error for layer in layers)
    notes.tools = versions("torch", "tensorflow_cpu", "keras")
    return notes
