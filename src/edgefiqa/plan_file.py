"""Folders that go on with interrupted work: the same plan as before, or a refusal.

A folder's ``plan.json`` holds all that decides what comes out: recipe, identities of the data,
settings. The command that finds the same plan there goes on; one with another plan must not mix
its results with those that are there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgefiqa.errors import EdgeFiqaError
from edgefiqa.files import write_text

__all__ = ["PLAN_NAME", "claim_folder", "differing_keys", "has_plan"]

PLAN_NAME = "plan.json"


def _as_json(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan as JSON gives it back: tuples are lists, keys are texts."""
    restored: dict[str, Any] = json.loads(json.dumps(plan))
    return restored


def _read(folder: Path, name: str = PLAN_NAME) -> dict[str, Any] | None:
    """Return the folder's plan; an empty one where it is damaged; None where there is none."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def differing_keys(
    known: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Return the keys in which two plans differ, nested ones as ``recipe.train.size``."""
    keys = []
    for key in dict.fromkeys((*wanted, *known)):
        old, new = known.get(key), wanted.get(key)
        if key in known and key in wanted and old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            keys += differing_keys(old, new, f"{prefix}{key}.")
        else:
            keys.append(f"{prefix}{key}")
    return keys


def has_plan(folder: Path, plan: Mapping[str, Any], *, name: str = PLAN_NAME) -> bool:
    """Tell whether the folder holds work of this very plan."""
    return _read(folder, name) == _as_json(plan)


def claim_folder(
    folder: Path, plan: Mapping[str, Any], *, holds: str, error: type[EdgeFiqaError]
) -> None:
    """Start work in a folder, or check that the work that is there is the same.

    Args:
        folder: Where results go; made if needed.
        plan: All that decides the results, as JSON.
        holds: What a folder of another plan holds, for the error: "another set", "other labels".
        error: The class of the error.

    Raises:
        EdgeFiqaError: The folder holds work of another plan; the message names what differs.
    """
    known, wanted = _read(folder), _as_json(plan)
    if known is None:
        write_text(folder / PLAN_NAME, json.dumps(wanted, indent=2) + "\n")
    elif known != wanted:
        keys = ", ".join(differing_keys(known, wanted)[:6])
        raise error(
            f"this folder holds {holds} ({PLAN_NAME} differs in {keys})",
            value=folder,
            next_step="name another folder, or remove this one",
        )
