"""Which runtime runs which format; the one place a new runtime is added."""

import importlib
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from edgefiqa.errors import MissingExtraError, UsageError
from edgefiqa.registry import Registry
from edgefiqa.runtimes.base import Scorer
from edgefiqa.runtimes.formats import Format, detect_format
from edgefiqa.workers import processor_count

__all__ = [
    "RUNTIMES",
    "RuntimeRow",
    "load",
    "load_stand_in",
    "read_metadata",
    "runtime_for",
    "runtime_of",
]

_EVALUATOR = "mil-reference"
_CORE_ML_DELEGATE = b"CoreMLBackend"
"""What ExecuTorch's delegate for Core ML is called inside a program."""


@dataclass(frozen=True, kw_only=True)
class RuntimeRow:
    """One runtime.

    Attributes:
        name: What users type.
        format: The files it runs.
        target: ``module:Class``, imported on use; the class is called with (path, threads).
        extra: The extra of the package that installs it.
        provides: Top-level packages of that extra, to tell "not installed" from a fault of ours.
        system: The only operating system it exists on, as ``platform.system`` says; empty: all.
    """

    name: str
    format: Format
    target: str
    extra: str
    provides: tuple[str, ...]
    system: str = ""


RUNTIMES: Registry[RuntimeRow] = Registry("runtime")

for _row in (  # the first row of a format that exists on this system is its default
    RuntimeRow(
        name="torch",
        format=Format.TORCH,
        target="edgefiqa.runtimes.torch:TorchScorer",
        extra="torch",
        provides=("torch", "timm", "torchvision", "safetensors"),
    ),
    RuntimeRow(
        name="onnxruntime",
        format=Format.ONNX,
        target="edgefiqa.runtimes.onnx:OnnxScorer",
        extra="onnx",
        provides=("onnxruntime", "onnx"),
    ),
    RuntimeRow(
        name="litert",
        format=Format.TFLITE,
        target="edgefiqa.runtimes.tflite:LiteRtScorer",
        extra="tflite",
        provides=("ai_edge_litert",),
    ),
    RuntimeRow(
        name="tensorflow",
        format=Format.TFLITE,
        target="edgefiqa.runtimes.tflite:TensorFlowScorer",
        extra="convert",
        provides=("tensorflow",),
    ),
    RuntimeRow(
        name="executorch",
        format=Format.EXECUTORCH,
        target="edgefiqa.runtimes.executorch:ExecuTorchScorer",
        extra="executorch",
        provides=("executorch", "torch"),
    ),
    RuntimeRow(
        name="coreml",
        format=Format.COREML,
        target="edgefiqa.runtimes.coreml:CoreMlScorer",
        extra="coreml",
        provides=("coremltools",),
        system="Darwin",
    ),
    RuntimeRow(
        name="mil-reference",
        format=Format.COREML,
        target="edgefiqa.runtimes.mil_reference:MilReferenceScorer",
        extra="mil",
        provides=("coremltools", "torch"),
    ),
):
    RUNTIMES.add(_row.name, _row)


def _import_module(row: RuntimeRow) -> ModuleType:
    return importlib.import_module(row.target.partition(":")[0])


@contextmanager
def _naming_the_extra(row: RuntimeRow) -> Iterator[None]:
    """Turn the import error of a runtime that is not installed into advice."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in row.provides:
            raise
        raise MissingExtraError(package, row.extra) from error


def runtime_for(format_: Format) -> RuntimeRow:
    """Return a format's default runtime on this operating system."""
    return next(
        row
        for _, row in RUNTIMES
        if row.format is format_ and row.system in ("", platform.system())
    )


def runtime_of(path: Path) -> RuntimeRow:
    """Return a file's default runtime on this operating system.

    It is its format's, but for an ExecuTorch program that is delegated to Core ML: off macOS the
    evaluator of ML Programs runs the package inside.

    Raises:
        ArtifactError: If the file is of no known format.
    """
    format_ = detect_format(path)
    if format_ is Format.EXECUTORCH and platform.system() != "Darwin" and _is_delegated(path):
        return RUNTIMES.get(_EVALUATOR)
    return runtime_for(format_)


def _is_delegated(program: Path) -> bool:
    return _CORE_ML_DELEGATE in program.read_bytes()


def default_threads() -> int:
    """Return the processors this process may use, at most 4: the big cores of a phone."""
    return min(4, processor_count())


def load(
    model: Path | str = "default", *, runtime: str | None = None, threads: int | None = None
) -> Scorer:
    """Load a scorer, ready to run.

    Args:
        model: A file or directory of any known format, or ``"default"``, the student that ships
            with the package.
        runtime: A name of ``RUNTIMES``; None takes the file's default, see ``runtime_of``.
        threads: Threads for one inference; None takes the processors available, at most 4.

    Raises:
        ArtifactError: If the file is damaged or of no known format.
        CheckpointError: If weights do not fit their card.
        MissingExtraError: If the runtime is not installed.
        PlatformError: If the runtime does not exist on this operating system.
        UsageError: If the runtime does not run this format.
    """
    if threads is not None and threads < 1:
        raise UsageError(
            "the number of threads is out of range", value=threads, allowed="1 or more"
        )
    # Imported as a path, not through edgefiqa.models: that would need torch.
    path = Path(__file__).parent.parent / "weights" if str(model) == "default" else Path(model)
    format_ = detect_format(path)
    row = RUNTIMES.get(runtime) if runtime else runtime_of(path)
    stand_in = row.name == _EVALUATOR and format_ is Format.EXECUTORCH
    if row.format is not format_ and not stand_in:
        fitting = ", ".join(name for name, other in RUNTIMES if other.format is format_)
        raise UsageError(
            f"the runtime {row.name} does not run {format_.value} files",
            value=path,
            allowed=fitting,
        )
    if stand_in:
        return _load_delegated(path, threads or default_threads())
    name = row.target.partition(":")[2]
    with _naming_the_extra(row):
        factory = cast("Callable[..., Scorer]", getattr(_import_module(row), name))
        return factory(path, threads=threads or default_threads())


def load_stand_in(path: Path, *, threads: int) -> Scorer | None:
    """Load what evaluates a file whose runtime does not exist on this operating system.

    For ExecuTorch programs that are delegated to Core ML this is the reference evaluator; the
    other formats have their second runtimes in ``RUNTIMES``.

    Returns:
        The scorer, None if nothing stands in.

    Raises:
        ArtifactError: If the file is damaged.
        MissingExtraError: If the evaluator is not installed.
    """
    if detect_format(path) is not Format.EXECUTORCH:
        return None
    return _load_delegated(path, threads)


def _load_delegated(path: Path, threads: int) -> Scorer:
    """Load the package inside an ExecuTorch program in the evaluator."""
    evaluator, executorch = RUNTIMES.get(_EVALUATOR), RUNTIMES.get("executorch")
    with _naming_the_extra(evaluator), _naming_the_extra(executorch):
        from edgefiqa.runtimes.coreml_delegate import CoreMlDelegateScorer

        return CoreMlDelegateScorer(path, threads=threads)


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata written into a scorer file; empty if it carries none.

    Raises:
        ArtifactError: If the file is damaged or of no known format.
        MissingExtraError: If the package that reads this format is not installed.
    """
    row = runtime_for(detect_format(path))
    with _naming_the_extra(row):
        content: dict[str, Any] = _import_module(row).read_metadata(path)
    return content
