"""ONNX files in ONNX Runtime, on its CPU provider."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgefiqa.runtimes.base import METADATA_KEY, check_images, check_signature, damaged

__all__ = ["OnnxScorer", "read_metadata"]

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def _open_session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its pybind exceptions share no base but Exception
        raise damaged(path, "ONNX Runtime", error) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object under ``edgefiqa`` in metadata_props; empty if there is none."""
    meta = _open_session(path, ort.SessionOptions()).get_modelmeta()
    content: dict[str, Any] = json.loads(meta.custom_metadata_map.get(METADATA_KEY, "{}"))
    return content


class OnnxScorer:
    """A scorer in ONNX Runtime."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self.runtime = f"onnxruntime {ort.__version__}"
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning workers steal the processor from whatever runs beside the scorer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = _open_session(path, options)
        (self._input, *_), outputs = self._session.get_inputs(), self._session.get_outputs()
        self.size = check_signature(
            path,
            shape=self._input.shape,
            dtype=_DTYPES.get(self._input.type, np.object_),
            outputs=len(outputs),
            output_dtype=_DTYPES.get(outputs[0].type, np.object_),
        )

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        name = self._input.name
        scores = [self._session.run(None, {name: image[None]})[0] for image in images]
        return np.concatenate(scores or [np.empty(0)]).astype(np.float32)
