"""A PyMIL function as a list of steps: constants folded, last uses known."""

import hashlib
import json
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from edgefiqa.errors import ArtifactError, EdgeFiqaError, UnsupportedOp
from edgefiqa.runtimes.mil.call import Call, Kernel, MilOp, SlotReference, TensorType, Value, carry
from edgefiqa.runtimes.mil.rounding import FLOATS, magnitude, round_to_half
from edgefiqa.runtimes.mil.table import BOUNDED, FRESH, MOVES, OPS

__all__ = ["Mode", "Observer", "Program", "lower"]

Observer = Callable[[MilOp, tuple[Tensor, ...]], None]
"""Called after each op with its outputs; they are not to be changed or kept."""


class Mode(StrEnum):
    """How floats are rounded.

    Attributes:
        FP16: Every result is rounded to its declared type.
        FP32: Results declared float16 keep float32's precision.
    """

    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(kw_only=True)
class Step:
    """One op that runs at every prediction."""

    call: Call
    kernel: Kernel
    slots: tuple[int, ...]
    dtypes: tuple[str, ...]
    moves: bool
    bounded: bool
    fresh: bool
    release: list[int] = field(default_factory=list)


def _finish(value: Tensor, dtype: str, mode: Mode) -> Tensor:
    """Bring a value to its declared type."""
    if dtype == "fp16" and mode is Mode.FP16:
        return value.half().float()
    if dtype in FLOATS:
        return value.float()
    if dtype == "bool":
        return value.bool()
    return value.to(torch.int32)


@dataclass(kw_only=True)
class Program:
    """What ``lower`` makes of a function.

    Attributes:
        ops: Every op but constants, in the order of the program.
        inputs: Types of the function's inputs.
        sha256: Hash over the op list: types, shapes, wiring and parameters, not names.
        folded: How many ops depend on constants alone and ran when the program was loaded.
    """

    mode: Mode
    ops: list[MilOp]
    inputs: list[TensorType]
    sha256: str
    folded: int
    steps: list[Step]
    values: list[Value | None]
    outputs: dict[str, Value | SlotReference]

    def run(
        self, arguments: Sequence[Tensor], observe: Observer | None
    ) -> tuple[dict[str, Value], tuple[float, str]]:
        """Run the steps.

        Args:
            arguments: One carried value for each of ``inputs``.
            observe: Called after each op, and with each input first.

        Returns:
            The outputs by name; the largest finite magnitude among results before rounding, with
            the op that made it.
        """
        largest, where = 0.0, ""
        for slot, (declared, argument) in enumerate(zip(self.inputs, arguments, strict=True)):
            value = _finish(argument, declared.dtype, self.mode)
            self.values[slot] = value
            if observe is not None:
                observe(_input_op(declared), (value,))
        for step in self.steps:
            results = _evaluate(step.kernel, step.call)
            if not step.moves:
                for index, dtype in enumerate(step.dtypes):
                    results[index], top = self._settle(step, results[index], dtype)
                    if top > largest:
                        largest, where = top, step.call.op.name
            for slot, result in zip(step.slots, results, strict=True):
                self.values[slot] = result
            if observe is not None:
                observe(step.call.op, tuple(results))
            for slot in step.release:
                self.values[slot] = None
        found: dict[str, Value] = {}
        for name, source in self.outputs.items():
            result_ = self.values[source.slot] if isinstance(source, SlotReference) else source
            assert result_ is not None
            found[name] = result_
        self.values[:] = [None] * len(self.values)
        return found, (largest, where)

    def _settle(self, step: Step, result: Tensor, dtype: str) -> tuple[Tensor, float]:
        """Return a result rounded to its declared type, and its magnitude before."""
        if dtype not in FLOATS:
            return _finish(result, dtype, self.mode), 0.0
        if dtype == "fp16" and self.mode is Mode.FP16:
            is_owned = step.fresh or not step.call.shares_memory(result)
            return round_to_half(result.float(), in_place=is_owned, measure=not step.bounded)
        return result.float(), 0.0 if step.bounded else magnitude(result)


def _input_op(declared: TensorType) -> MilOp:
    return MilOp(name=declared.name, type="input", inputs={}, outputs=(declared,))


def _evaluate(kernel: Kernel, call: Call) -> list[Tensor]:
    try:
        results = kernel(call)
    except EdgeFiqaError:
        raise
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AssertionError) as error:
        raise ArtifactError(
            f"the op {call.op.type!r} cannot be evaluated ({str(error)[:200]})", value=call.op.name
        ) from error
    return [results] if isinstance(results, Tensor) else list(results)


def _tensor_type(var: Any) -> TensorType:
    from coremltools.converters.mil.mil import types

    shape = tuple(int(d) if isinstance(d, numbers.Integral) else None for d in var.shape)
    return TensorType(name=var.name, dtype=types.builtin_to_string(var.dtype), shape=shape)


def _parameters(op: Any) -> dict[str, Any]:
    """Return an op's inputs, defaults included, absent ones left out."""
    found = {name: getattr(op, name, None) for name in op.input_spec.input_types}
    return {name: value for name, value in found.items() if value is not None}


class _Lowering:
    """Walks a function once; ``known`` holds constants, ``slots`` what exists at run time."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.values: list[Value | None] = []
        self.known: dict[str, Value] = {}
        self.slots: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.steps: list[Step] = []
        self.ops: list[MilOp] = []
        self.folded = 0
        self.digest = hashlib.sha256()

    def new_slot(self, name: str) -> int:
        self.values.append(None)
        self.slots[name] = len(self.values) - 1
        return self.slots[name]

    def source(self, var: Any) -> Value | SlotReference:
        if var.name in self.slots:
            return SlotReference(self.slots[var.name])
        if var.name in self.known:
            return self.known[var.name]
        # A default that the file leaves out, or a constant: made when it is first read, because
        # coremltools' copy of a float16 weight is half the size of ours.
        value = carry(var.val)
        if len(getattr(var, "child_ops", ())) > 1:
            self.known[var.name] = value
        return value

    def describe(self, name: str, value: Any) -> str:
        """Write one input for the hash: its producer's number, or a small constant itself."""
        if isinstance(value, list | tuple):
            return f"{name}=({','.join(self.describe('', item) for item in value)})"
        if value.name in self.numbers:
            return f"{name}=%{self.numbers[value.name]}"
        constant = value.val
        if getattr(constant, "size", 1) > 16:
            return f"{name}=const{list(constant.shape)}:{constant.dtype}"
        return f"{name}={getattr(constant, 'tolist', lambda: constant)()}"

    def add(self, op: Any) -> None:
        parameters = _parameters(op)
        described = MilOp(
            name=op.name,
            type=op.op_type,
            inputs={
                name: tuple(v.name for v in (value if isinstance(value, list | tuple) else [value]))
                for name, value in parameters.items()
            },
            outputs=tuple(_tensor_type(var) for var in op.outputs),
        )
        self.hash(described, parameters)
        self.ops.append(described)
        if op.op_type not in OPS or op.blocks:
            raise UnsupportedOp(op.op_type, op.name)
        call = Call(
            described,
            {
                name: [self.source(v) for v in value]
                if isinstance(value, list | tuple)
                else self.source(value)
                for name, value in parameters.items()
            },
            self.values,
        )
        if call.constant:
            self.fold(call)
            return
        self.steps.append(
            Step(
                call=call,
                kernel=OPS[op.op_type],
                slots=tuple(self.new_slot(declared.name) for declared in described.outputs),
                dtypes=tuple(declared.dtype for declared in described.outputs),
                moves=op.op_type in MOVES,
                bounded=op.op_type in BOUNDED,
                fresh=op.op_type in FRESH,
            )
        )

    def fold(self, call: Call) -> None:
        results = _evaluate(OPS[call.op.type], call)
        for declared, result in zip(call.op.outputs, results, strict=True):
            self.known[declared.name] = _finish(result, declared.dtype, self.mode)
        self.folded += 1

    def hash(self, op: MilOp, parameters: dict[str, Any]) -> None:
        outputs = [[o.dtype, list(o.shape)] for o in op.outputs]
        inputs = [self.describe(name, value) for name, value in sorted(parameters.items())]
        self.digest.update((json.dumps([op.type, inputs, outputs]) + "\n").encode())
        for declared in op.outputs:
            self.numbers[declared.name] = len(self.numbers)

    def release_after_last_use(self, kept: set[int]) -> None:
        seen = set(kept)
        for step in reversed(self.steps):
            for slot in {*step.call.references(), *step.slots} - seen:
                step.release.append(slot)
                seen.add(slot)


def lower(function: Any, mode: Mode) -> Program:
    """Turn a PyMIL function into steps.

    Args:
        function: As coremltools' loader returns it; not needed afterwards.
        mode: How floats are rounded.

    Raises:
        UnsupportedOp: If an op is not in the table.
        ArtifactError: If an op on constants cannot be evaluated.
    """
    lowering = _Lowering(mode)
    inputs = []
    for var in function.inputs.values():
        inputs.append(_tensor_type(var))
        lowering.new_slot(var.name)
        lowering.numbers[var.name] = len(lowering.numbers)
    with torch.inference_mode():
        for op in function.operations:
            if op.op_type != "const":
                lowering.add(op)
    outputs = {var.name: lowering.source(var) for var in function.outputs}
    kept = {source.slot for source in outputs.values() if isinstance(source, SlotReference)}
    lowering.release_after_last_use(kept)
    return Program(
        mode=mode,
        ops=lowering.ops,
        inputs=inputs,
        sha256=lowering.digest.hexdigest(),
        folded=lowering.folded,
        steps=lowering.steps,
        values=lowering.values,
        outputs=outputs,
    )
