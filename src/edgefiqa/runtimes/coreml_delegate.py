"""ExecuTorch programs delegated to Core ML, in the reference evaluator of ML Programs.

Such a program holds a whole ``.mlpackage``. Off Apple's systems ExecuTorch cannot run it; here the
package is taken out and evaluated. That checks what was lowered, not ExecuTorch's delegate.
"""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import ArtifactError
from edgefiqa.runtimes.base import check_images, check_signature, damaged

__all__ = ["CoreMlDelegateScorer", "extract_package"]

_BACKEND = "CoreMLBackend"
_CASTS = {"dim_order_ops::_to_dim_order_copy", "aten::_to_copy"}
"""What may stay outside the delegate: the cast of the uint8 image to float32."""


def extract_package(program: Path, out: Path) -> Path:
    """Write the package inside a delegated program.

    Args:
        program: The ``.pte`` file.
        out: A directory for what the delegate holds.

    Returns:
        The ``.mlpackage`` directory.

    Raises:
        ArtifactError: If the program is damaged, or anything but one delegate and a cast.
    """
    from executorch.backends.apple.coreml import executorchcoreml
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        content = deserialize_pte_binary(program.read_bytes()).program
        plan = next(plan for plan in content.execution_plan if plan.name == "forward")
    except Exception as error:  # of flatbuffers, struct or ExecuTorch, depending on the damage
        raise damaged(program, "ExecuTorch", error) from error
    rest = {operator.name for operator in plan.operators} - _CASTS
    if [delegate.id for delegate in plan.delegates] != [_BACKEND] or rest:
        found = sorted({delegate.id for delegate in plan.delegates} | rest)
        raise ArtifactError(
            f"not one {_BACKEND} delegate but {len(plan.delegates)}, with "
            f"{', '.join(found) or 'no operator'}",
            value=program,
            allowed=f"one {_BACKEND} delegate, and the cast of its input",
            next_step="export with --to executorch-coreml",
        )
    data = content.backend_delegate_data[plan.delegates[0].processed.index].data
    executorchcoreml.unflatten_directory_contents(bytes(data), str(out))
    packages = sorted(out.rglob("*.mlpackage"))
    if len(packages) != 1:
        raise ArtifactError(f"the delegate holds {len(packages)} packages, not one", value=program)
    return packages[0]


class CoreMlDelegateScorer:
    """The package inside a delegated program, fed with float32 ``[1, S, S, 3]``, 0..255.

    Raises:
        ArtifactError: If the program is damaged, or not one delegate.
        UnsupportedOp: If its package has an op the evaluator does not know.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        import torch

        from edgefiqa.runtimes.mil import MilModel

        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            self._model = MilModel.load(extract_package(path, Path(folder)))
        self.runtime = f"{self._model.runtime} of the package in the delegate"
        (declared, *others), outputs = self._model.arguments, self._model.outputs
        self.size = check_signature(
            path,
            shape=declared.shape,
            dtype=np.uint8 if declared.dtype == "fp32" and not others else np.object_,
            outputs=len(outputs),
            output_dtype=np.float32,
        )
        self._input, self._output = declared.name, outputs[0].name

    def score(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score uint8 ``[n, S, S, 3]`` images one by one; see ``Scorer.score``."""
        check_images(images, self.size)
        scores = np.empty(len(images), np.float32)
        for index, image in enumerate(images):
            outputs = self._model.predict({self._input: image[None].astype(np.float32)})
            scores[index] = np.asarray(outputs[self._output]).reshape(-1)[0]
        return scores
