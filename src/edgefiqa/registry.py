"""One typed registry for everything that is chosen by name."""

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from edgefiqa.errors import UnknownNameError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names mapped to entries; a duplicate raises, an unknown name lists the known ones.

    Args:
        kind: What the entries are, for messages ("model", "format").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register an entry.

        Args:
            name: The name users type.
            entry: What it stands for.

        Returns:
            The entry itself.

        Raises:
            ValueError: If the name is taken; this is a fault of the program, not of its user.
        """
        if name in self._entries:
            msg = f"{self.kind} {name!r} is registered twice"
            raise ValueError(msg)
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry of a name.

        Raises:
            UnknownNameError: If there is none; the message lists the known names.
        """
        if name in self._entries:
            return self._entries[name]
        close = difflib.get_close_matches(name, self._entries, n=1)
        raise UnknownNameError(
            f"unknown {self.kind}",
            value=repr(name),
            allowed=", ".join(self._entries),
            next_step=f"did you mean {close[0]!r}?" if close else None,
        )

    def names(self) -> list[str]:
        """Return the names in the order of registration."""
        return list(self._entries)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(self._entries.items())

    def __contains__(self, name: object) -> bool:
        return name in self._entries
