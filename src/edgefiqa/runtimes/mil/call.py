"""One op of a program: what it is, and its inputs as a kernel reads them.

A kernel is a function of a ``Call``. Whatever type MIL declares, values are carried as torch
tensors: floats as float32, integers as int32, truth values as bool, strings as ``str``. A float16
value is a float32 that float16 can represent; the program rounds after every op, not the kernels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefiqa.errors import UnsupportedOp

__all__ = ["Call", "Kernel", "MilOp", "SlotReference", "TensorType", "Value", "carry"]

Value = Tensor | str
"""A value while the program runs."""

Kernel = Callable[["Call"], Tensor | Sequence[Tensor]]
"""What evaluates one op: a tensor, or one for each of its outputs."""


@dataclass(frozen=True, kw_only=True)
class TensorType:
    """A declared type.

    Attributes:
        name: The value's name, unique in the program.
        dtype: As MIL writes it: fp16, fp32, int32, uint8, bool, …
        shape: Its dimensions; None where the program leaves one open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class MilOp:
    """One op as the program states it, free of coremltools' objects.

    Attributes:
        name: Name of the node.
        type: The op ("conv").
        inputs: Names of the values it reads, by parameter; constants included.
        outputs: Types of the values it makes.
    """

    name: str
    type: str
    inputs: dict[str, tuple[str, ...]]
    outputs: tuple[TensorType, ...]


@dataclass(frozen=True)
class SlotReference:
    """A value that exists only while the program runs: its place in the table of values."""

    slot: int


def carry(value: Any) -> Value:
    """Turn a constant, as coremltools holds it, into a carried value."""
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return str(array.item())
    if array.dtype.kind not in "fiub":
        raise UnsupportedOp("const", reason=f"a constant of type {array.dtype}")
    target = {"f": np.float32, "b": np.bool_}.get(array.dtype.kind, np.int32)
    # Shared with coremltools where the type fits: a float32 program's weights exist once.
    carried: NDArray[Any] = array.astype(target, copy=not array.flags.writeable)
    return torch.from_numpy(carried if carried.ndim else carried.reshape(()))


class Call:
    """An op's inputs, constants prepared, ready for its kernel.

    Args:
        op: The op.
        inputs: By parameter: a value, a reference, or a list of either; absent ones left out.
        values: The table that references point into; shared by the whole program.
    """

    def __init__(
        self,
        op: MilOp,
        inputs: dict[str, Value | SlotReference | list[Value | SlotReference]],
        values: list[Value | None],
    ) -> None:
        self.op = op
        self._inputs, self._values = inputs, values
        self._ints: dict[str, tuple[int, ...]] = {}

    @property
    def constant(self) -> bool:
        """Whether no input changes from run to run."""
        return not self.references()

    def references(self) -> list[int]:
        """Return the slots it reads."""
        flat = [
            item
            for value in self._inputs.values()
            for item in (value if isinstance(value, list) else [value])
        ]
        return [item.slot for item in flat if isinstance(item, SlotReference)]

    def shares_memory(self, result: Tensor) -> bool:
        """Tell whether a result lies in the memory of an input, so that it must not be changed."""
        memory = result.untyped_storage().data_ptr()
        for value in self._inputs.values():
            for item in value if isinstance(value, list) else [value]:
                source = self._value(item)
                if isinstance(source, Tensor) and source.untyped_storage().data_ptr() == memory:
                    return True
        return False

    def refuse(self, reason: str) -> UnsupportedOp:
        """Build the error for a use of this op that its kernel does not know."""
        return UnsupportedOp(self.op.type, self.op.name, reason)

    def has(self, name: str) -> bool:
        """Tell whether an optional input is given."""
        return name in self._inputs

    def _value(self, item: Value | SlotReference) -> Value:
        if not isinstance(item, SlotReference):
            return item
        value = self._values[item.slot]
        assert value is not None, "read after its last use"
        return value

    def tensor(self, name: str) -> Tensor:
        """Return an input."""
        item = self._inputs[name]
        value = self._value(item) if not isinstance(item, list) else self._value(item[0])
        assert isinstance(value, Tensor), name
        return value

    def optional(self, name: str) -> Tensor | None:
        """Return an input, None if it is not given."""
        return self.tensor(name) if name in self._inputs else None

    def tensors(self, name: str) -> list[Tensor]:
        """Return the members of a tuple input."""
        items = self._inputs[name]
        found = [self._value(item) for item in (items if isinstance(items, list) else [items])]
        return [value for value in found if isinstance(value, Tensor)]

    def ints(self, name: str) -> tuple[int, ...]:
        """Return a vector (or scalar) of integers; remembered if it is constant."""
        known = self._ints.get(name)
        if known is not None:
            return known
        numbers = tuple(int(number) for number in self.tensor(name).reshape(-1).tolist())
        if not isinstance(self._inputs[name], SlotReference):
            self._ints[name] = numbers
        return numbers

    def integer(self, name: str, default: int = 0) -> int:
        """Return a scalar integer."""
        return self.ints(name)[0] if name in self._inputs else default

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a scalar as a Python float."""
        return float(self.tensor(name).item()) if name in self._inputs else default

    def flag(self, name: str) -> bool:
        """Return a truth value, False if it is not given."""
        return name in self._inputs and bool(self.tensor(name).item())

    def text(self, name: str, default: str = "") -> str:
        """Return a string."""
        item = self._inputs.get(name, default)
        assert isinstance(item, str), name
        return item
