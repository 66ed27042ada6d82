"""ExecuTorch programs in ExecuTorch's Python runtime (XNNPACK and portable kernels)."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime
from numpy.typing import NDArray

from edgefiqa.errors import ArtifactError, PlatformError
from edgefiqa.runtimes.base import METADATA_KEY, check_images, check_signature, damaged

__all__ = ["ExecuTorchScorer", "read_metadata"]

_SCALAR_TYPES = {0: np.uint8, 6: np.float32}  # c10::ScalarType, as the program stores it


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the JSON object that the constant method ``edgefiqa`` gives; empty without one.

    Works for programs whose delegate does not exist here, too.
    """
    try:
        program = Runtime.get().load_program(path)
        method = program.load_method(METADATA_KEY) if METADATA_KEY in program.method_names else None
    except (RuntimeError, ValueError) as error:
        raise damaged(path, "ExecuTorch", error) from error
    content: dict[str, Any] = json.loads(method.execute([])[0]) if method is not None else {}
    return content


class ExecuTorchScorer:
    """A scorer in ExecuTorch.

    The runtime has one thread pool for the whole process: ``threads`` sets it for all programs.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        self.runtime = f"executorch {version('executorch')}"
        portable_lib._unsafe_reset_threadpool(threads)
        runtime = Runtime.get()
        if b"CoreMLBackend" in path.read_bytes() and not runtime.backend_registry.is_available(
            "CoreMLBackend"
        ):
            raise PlatformError(
                "this program is delegated to Core ML, which needs macOS or iOS",
                value=path,
                next_step="run it there, or export with --to executorch for XNNPACK",
            )
        try:
            self._program = runtime.load_program(path)  # methods do not keep their program alive
            method = self._program.load_method("forward")
        except (RuntimeError, ValueError) as error:
            raise damaged(path, "ExecuTorch", error) from error
        if method is None:
            raise ArtifactError("the program has no method 'forward'", value=path)
        self._method = method
        meta = method.metadata
        source, target = meta.input_tensor_meta(0), meta.output_tensor_meta(0)
        self.size = check_signature(
            path,
            shape=list(source.sizes()),
            dtype=_SCALAR_TYPES.get(source.dtype(), np.object_),
            outputs=meta.num_outputs(),
            output_dtype=_SCALAR_TYPES.get(target.dtype(), np.object_),
        )

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        for index, image in enumerate(images):
            (score,) = self._method.execute([torch.from_numpy(image[None].copy())])
            scores[index] = score.reshape(-1)[0].item()
        return scores
