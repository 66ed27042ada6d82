"""Packages whose public names are imported when they are first used.

A package lists its names once, in the ``if TYPE_CHECKING:`` block of its ``__init__``, where type
checkers and editors read them. At run time nothing of the block is executed; `attach` reads the
same block and imports a name's module when the name is asked for. So ``from edgefiqa.convert import
parse_targets`` imports neither torch nor TensorFlow.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["attach", "make_callable"]


def _listed(source: str) -> dict[str, tuple[str, str]]:
    """Return public name → (module, name there), from the ``if TYPE_CHECKING:`` block."""
    found = {}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            continue
        for line in node.body:
            if isinstance(line, ast.ImportFrom) and line.module:
                for alias in line.names:
                    found[alias.asname or alias.name] = (line.module, alias.name)
    return found


def attach(package: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that lists its names under ``TYPE_CHECKING``.

    Args:
        package: The package's ``__name__``.

    Returns:
        A function for the package's ``__getattr__``: it imports what is asked for and keeps it.
    """
    listed: dict[str, tuple[str, str]] = {}

    def resolve(name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system and by inspect
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not listed:
            listed.update(_listed(inspect.getsource(sys.modules[package])))
        if name not in listed:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = listed[name]
        value = getattr(importlib.import_module(module), attribute)
        setattr(sys.modules[package], name, value)
        return value

    return resolve


class _CallablePackage(ModuleType):
    """A package that is called like the function that its ``_CALLS`` names."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, _, function = self._CALLS.partition(":")
        return getattr(importlib.import_module(module), function)(*args, **kwargs)


def make_callable(package: str, function: str) -> None:
    """Let a stage's package be called: ``edgefiqa.convert(...)`` runs the stage.

    Importing a subpackage sets the attribute of that name on its parent, so the stage and a
    function of the same name in the public API can only live together as one object.

    Args:
        package: The package's ``__name__``.
        function: ``module:function`` that a call is handed to.
    """
    module = sys.modules[package]
    module.__dict__["_CALLS"] = function
    module.__class__ = _CallablePackage
