"""TFLite files in LiteRT, and in TensorFlow's interpreter as a second opinion."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import ArtifactError
from edgefiqa.runtimes.base import METADATA_KEY, check_images, check_signature, damaged
from edgefiqa.runtimes.imports import import_tensorflow

__all__ = ["LiteRtScorer", "TensorFlowScorer", "read_metadata"]


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object in the metadata buffer ``edgefiqa``; empty if there is none."""
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == METADATA_KEY.encode():
            buffer = model.Buffers(entry.Buffer()).DataAsNumpy()
            found: dict[str, Any] = json.loads(buffer.tobytes())
            return found
    return {}


class _InterpreterScorer:
    """What both interpreters share: they have one Python interface."""

    def __init__(self, interpreter_class: Any, runtime: str, path: Path, threads: int) -> None:
        self.runtime = runtime
        try:
            self._interpreter = interpreter_class(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise damaged(path, runtime, error) from error
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1:
            raise ArtifactError(
                "not an edgefiqa scorer", value=path, allowed="one input", next_step="convert it"
            )
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self.size = check_signature(
            path,
            shape=[int(side) for side in inputs[0]["shape"]],
            dtype=inputs[0]["dtype"],
            outputs=len(outputs),
            output_dtype=outputs[0]["dtype"],
        )

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        for index, image in enumerate(images):
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            scores[index] = self._interpreter.get_tensor(self._output).reshape(-1)[0]
        return scores


class LiteRtScorer(_InterpreterScorer):
    """A scorer in LiteRT (XNNPACK on CPUs)."""

    def __init__(self, path: Path, *, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        super().__init__(Interpreter, f"litert {version('ai-edge-litert')}", path, threads)


class TensorFlowScorer(_InterpreterScorer):
    """A scorer in the interpreter that TensorFlow carries."""

    def __init__(self, path: Path, *, threads: int) -> None:
        tf = import_tensorflow()
        with warnings.catch_warnings():  # tf.lite.Interpreter announces its successor, LiteRT
            warnings.simplefilter("ignore")
            super().__init__(
                tf.lite.Interpreter, f"tensorflow {tf.__version__} (tf.lite)", path, threads
            )
