"""Small MIL programs for tests: built with coremltools, run without Core ML."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgefiqa.runtimes.imports import import_coremltools
from edgefiqa.runtimes.mil import MilModel, Mode
from edgefiqa.runtimes.mil.program import Program, lower

Array = NDArray[Any]

__all__ = ["Array", "evaluate", "infer", "lowered", "ran", "save", "save_network"]


def _function(op: str, live: dict[str, Array], fixed: dict[str, Any], target: str) -> Any:
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder, Function, Placeholder, types

    kinds = {"f": types.fp32, "i": types.int32, "b": types.bool, "e": types.fp16}
    builder: Any = Builder
    inputs = {
        name: Placeholder(
            array.shape, types.fp16 if array.dtype == np.float16 else kinds[array.dtype.kind]
        )
        for name, array in live.items()
    }
    with Function(inputs, opset_version=getattr(ct.target, target)) as function:
        result = getattr(builder, op)(**function.inputs, **fixed)
        function.set_outputs(list(result) if isinstance(result, tuple | list) else [result])
    return function


def lowered(
    op: str,
    live: dict[str, Array],
    fixed: dict[str, Any],
    *,
    target: str = "iOS16",
    mode: Mode = Mode.FP16,
) -> Program:
    """One op as a program: ``live`` arrives at run time, ``fixed`` is in the file."""
    return lower(_function(op, live, fixed, target), mode)


def ran(program: Program, live: dict[str, Array]) -> list[Array]:
    """Run such a program."""
    arguments = [torch.from_numpy(np.array(live[declared.name])) for declared in program.inputs]
    with torch.inference_mode():
        found, _ = program.run([_carried(a) for a in arguments], None)
    return [value.numpy() for value in found.values() if isinstance(value, torch.Tensor)]


def _carried(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value.to(torch.int32)


def evaluate(
    op: str, live: dict[str, Array], fixed: dict[str, Any], *, target: str = "iOS16"
) -> list[Array]:
    """Evaluate one op."""
    return ran(lowered(op, live, fixed, target=target), live)


def infer(
    op: str, live: dict[str, Array], fixed: dict[str, Any], *, target: str = "iOS16"
) -> list[Array]:
    """Return what coremltools' value inference says of the same op."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder, Function, Placeholder, types

    builder: Any = Builder
    with Function(
        {"unused": Placeholder((1,), types.fp32)}, opset_version=getattr(ct.target, target)
    ) as function:
        constants = {name: builder.const(val=array) for name, array in live.items()}
        result = getattr(builder, op)(**constants, **fixed)
        function.set_outputs([function.inputs["unused"]])
    found = list(result) if isinstance(result, tuple | list) else [result]
    values = [
        var.val if var.val is not None else var.op.materialized_val_inference() for var in found
    ]
    return [np.asarray(value) for value in values]


def save(
    path: Path,
    build: Callable[..., Any],
    shapes: dict[str, tuple[int, ...]],
    *,
    target: str = "iOS16",
    precision: str = "float32",
    **options: Any,
) -> Path:
    """Convert a program to a package; ``build`` takes a variable for each of ``shapes``."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder

    builder: Any = Builder
    specs = [builder.TensorSpec(shape=shape) for shape in shapes.values()]
    names = ", ".join(shapes)
    scope: dict[str, Any] = {"build": build}
    exec(f"def program({names}): return build({names})", scope)  # MIL reads the parameter names
    program = builder.program(input_specs=specs, opset_version=getattr(ct.target, target))(
        scope["program"]
    )
    model = ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=ct.precision(precision),
        minimum_deployment_target=getattr(ct.target, target),
        skip_model_load=True,
        **options,
    )
    model.save(str(path))
    return path


def load(path: Path, mode: Mode = Mode.FP16) -> MilModel:
    """Load a package."""
    return MilModel.load(path, mode=mode)


def save_network(network: torch.nn.Module, size: int, path: Path, precision: str) -> Path:
    """Export a network of ``edgefiqa.models`` as ``edgefiqa convert`` does."""
    from edgefiqa.convert.exporters.coreml import export
    from edgefiqa.convert.prepare import prepare_scorer
    from edgefiqa.manifest import FileMetadata

    metadata = FileMetadata.model_construct(
        name="lively", precision=precision, licence="Apache-2.0", producer="tests", version="0"
    )
    export(prepare_scorer(network, size), size=size, path=path, metadata=metadata)
    return path
