"""Steps of a run whose results are kept: the same run goes on where it stopped."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import TypeAdapter

from edgefiqa.files import write_text
from edgefiqa.isolation import call_isolated
from edgefiqa.plan_file import PLAN_NAME, has_plan

__all__ = ["Steps"]

P = ParamSpec("P")
R = TypeVar("R")


class Steps:
    """Steps in separate processes, whose results are kept until all are done.

    Args:
        folder: Where results and logs are kept.
        on_start: Called with the name of each step that is really done.
    """

    def __init__(self, folder: Path, on_start: Callable[[str], None]) -> None:
        self.folder = folder
        self._on_start = on_start

    def claim(self, plan: Mapping[str, Any]) -> None:
        """Start anew unless the same work was interrupted here."""
        if not has_plan(self.folder, plan):
            # Unlike training, steps take minutes: results of another plan are not worth a question.
            shutil.rmtree(self.folder, ignore_errors=True)
            write_text(self.folder / PLAN_NAME, json.dumps(plan, indent=2) + "\n")

    def _kept(self, name: str, suffix: str = ".json") -> Path:
        stem = "".join(letter if letter.isalnum() else "-" for letter in name)
        return self.folder / f"{stem}{suffix}"

    def forget(self, name: str, kind: type[R], still_true: Callable[[R], bool]) -> None:
        """Drop a step's result that is not true any more."""
        kept = self._kept(name)
        if kept.exists() and not still_true(TypeAdapter(kind).validate_json(kept.read_bytes())):
            kept.unlink()

    def keep(
        self, name: str, kind: type[R], function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return a step's result, from where it was kept or by doing it."""
        adapter: TypeAdapter[R] = TypeAdapter(kind)
        kept = self._kept(name)
        if kept.exists():
            return adapter.validate_json(kept.read_bytes())
        self._on_start(name)
        result = call_isolated(self._kept(name, ".log"), function, *args, **kwargs)
        write_text(kept, adapter.dump_json(result, indent=1).decode())
        return result
