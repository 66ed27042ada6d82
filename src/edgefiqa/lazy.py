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

    The package gets a ``__dir__`` too, so that ``dir()`` and tab completion show the names before
    they are imported. A listed name that is also a subpackage (``edgefiqa.convert``) is the
    subpackage, whichever is imported first; see `make_callable`.

    Args:
        package: The package's ``__name__``.

    Returns:
        A function that imports the module of the name it is given and keeps the result as an
        attribute of the package. It raises AttributeError for names that are not listed.
    """
    listed: dict[str, tuple[str, str]] = {}
    module = sys.modules[package]

    def table() -> dict[str, tuple[str, str]]:
        if not listed:
            listed.update(_listed(inspect.getsource(module)))
        return listed

    def resolve(name: str) -> Any:
        # The import system and `inspect` ask for names such as __path__ and __wrapped__: they are
        # answered without reading the source.
        if name.startswith("__") or name not in table():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        target, attribute = listed[name]
        if importlib.util.find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(target), attribute)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *table()})

    module.__dict__["__dir__"] = names
    return resolve


class _CallablePackage(ModuleType):
    """A package that is called like the function that its ``_CALLS`` names."""

    def _function(self) -> Callable[..., Any]:
        module, _, name = self._CALLS.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """What ``inspect.signature`` and editors show: the function's parameters."""
        return inspect.signature(self._function())

    @property
    def __doc__(self) -> str:  # type: ignore[override]  # help() shows how it is called
        function = self._function()
        called = f"{self.__name__}{inspect.signature(function)}"
        return f"{self.__dict__['__doc__']}\n\n{called}\n\n{inspect.getdoc(function)}"

    def __reduce__(self) -> tuple[Callable[..., ModuleType], tuple[str]]:
        """Pickle by name, as functions are: pools of processes can be given the package."""
        return importlib.import_module, (self.__name__,)


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
