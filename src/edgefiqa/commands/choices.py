"""Closed choices in help texts: ``{runtimes}`` and its like become the names of a registry.

The registries are imported when a help text is shown, not when a command starts: most of them need
numpy, and none may need torch.
"""

import importlib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from edgefiqa.errors import UnknownNameError
from edgefiqa.registry import Registry

__all__ = ["LISTS", "fill_in", "names_of", "parse_choice"]

LISTS = {
    "runtimes": "edgefiqa.runtimes:RUNTIMES",
    "formats": "edgefiqa.convert:TARGETS",
    "int8_formats": "edgefiqa.quantize:FORMATS",
    "policies": "edgefiqa.measuring.policy:policy_names",
    "recipes": "edgefiqa.quantize:recipe_names",
    "splits": "edgefiqa.data.image_set:Split",
    "degradations": "edgefiqa.data.degrade:DegradationName",
    "tools": "edgefiqa.benchmarks:TOOLS",
    "baselines": "edgefiqa.benchmarks.studies:BASELINES",
    "processors": "edgefiqa.benchmarks.studies:Processor",
    "test_precisions": "edgefiqa.benchmarks.studies:OpTestPrecision",
    "coreml_rows": "edgefiqa.benchmarks.studies:COREML_ROWS",
}
"""Name in a help text → ``module:object``: a registry, names, or a function that returns them."""

_MARK = re.compile(r"\{(\w+)\}")
Choice = TypeVar("Choice", bound=StrEnum)


def names_of(list_name: str) -> list[str]:
    """Return the names that a list of ``LISTS`` holds now."""
    module, _, attribute = LISTS[list_name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, Registry):
        return found.names()
    names: Iterable[object] = found if isinstance(found, Iterable) else found()
    return [str(name) for name in names]


def fill_in(text: str) -> str:
    """Replace each ``{list}`` in a help text by the names of that list."""
    return _MARK.sub(lambda mark: ", ".join(names_of(mark[1])), text)


def parse_choice(kind: type[Choice], value: str, *, what: str) -> Choice:
    """Return the member of a name.

    Args:
        kind: The choices.
        value: What the user typed.
        what: What it names, for the message.

    Raises:
        UnknownNameError: There is no such member.
    """
    if value not in list(kind):
        raise UnknownNameError(f"unknown {what}", value=repr(value), allowed=", ".join(kind))
    return kind(value)
