"""Parts of the images that are measured apart: a small mean drift can hide a large one in the dark.

What a slice is made of is measured from the image itself (luminance, sharpness, size) or known of
it (degradations, the user's columns).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefiqa.errors import UsageError
from edgefiqa.measuring.records import ImageFacts, ImagesRecord

__all__ = ["ALL", "Slice", "SliceRules", "list_slices"]

ALL = "all"
_MOST_VALUES = 12


@dataclass(frozen=True, kw_only=True)
class SliceRules:
    """Where the bounds lie.

    Attributes:
        dark_below: Mean luma, 0..255.
        blurred_below: Variance of the Laplacian of the scored square.
        small_below: Short side of the photograph in pixels; None takes the scorer's input.
        columns: The user's columns to slice by; None takes all.
    """

    dark_below: float = 60.0
    blurred_below: float = 100.0
    small_below: int | None = None
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the images.

    Attributes:
        name: What policies call it.
        rule: How it was chosen, in words.
        rows: ``[n]``, true inside.
    """

    name: str
    rule: str
    rows: NDArray[np.bool_]


def list_slices(images: ImagesRecord, rules: SliceRules) -> list[Slice]:
    """List the slices that hold an image, ``all`` first.

    Raises:
        UsageError: No image has such a column, or it holds too many different texts.
    """
    facts = images.images
    small = images.identity.size if rules.small_below is None else rules.small_below
    found = [
        Slice(name=ALL, rule="all images", rows=np.ones(len(facts), bool)),
        Slice(
            name="dark",
            rule=f"mean luma below {rules.dark_below:g} of 255",
            rows=_below([fact.luminance for fact in facts], rules.dark_below),
        ),
        Slice(
            name="blurred",
            rule=f"variance of the Laplacian below {rules.blurred_below:g}",
            rows=_below([fact.sharpness for fact in facts], rules.blurred_below),
        ),
        Slice(
            name="small",
            rule=f"short side of the photograph below {small} pixels",
            rows=_below([fact.short_side for fact in facts], small),
        ),
        *_by_kind(facts),
    ]
    known = dict.fromkeys(name for fact in facts for name in fact.columns)
    for column in known if rules.columns is None else rules.columns:
        if column not in known:
            allowed = ", ".join(known) or "none: give the columns with the images"
            raise UsageError("no image has this column", value=column, allowed=allowed)
        found += _by_column(facts, column)
    return [part for part in found if part.rows.any()]


def _below(values: Sequence[float | int | None], bound: float) -> NDArray[np.bool_]:
    return np.array([value is not None and value < bound for value in values], bool)


def _by_kind(facts: Sequence[ImageFacts]) -> Iterator[Slice]:
    kinds = sorted({kind for fact in facts for kind in fact.kinds})
    for kind in kinds:
        rows = np.array([kind in fact.kinds for fact in facts])
        yield Slice(
            name=f"kind/{kind}", rule=f"degraded by {kind}, perhaps among others", rows=rows
        )
    if kinds:
        rows = np.array([not fact.kinds for fact in facts])
        yield Slice(name="kind/none", rule="not degraded", rows=rows)


def _by_column(facts: Sequence[ImageFacts], column: str) -> Iterator[Slice]:
    """Yield a slice for each value, or for thirds where there are many numbers."""
    texts = [fact.columns.get(column) for fact in facts]
    values = sorted({text for text in texts if text is not None})
    if len(values) <= _MOST_VALUES:
        for value in values:
            rows = np.array([text == value for text in texts])
            yield Slice(name=f"{column}={value}", rule=f"{column} is {value}", rows=rows)
        return
    try:
        numbers = np.array([np.nan if text is None else float(text) for text in texts])
    except ValueError as error:
        what = f"the column {column} has {len(values)} different texts"
        allowed = f"numbers, or at most {_MOST_VALUES} texts"
        raise UsageError(what, value=str(error), allowed=allowed) from error
    first, second = np.nanquantile(numbers, (1 / 3, 2 / 3))
    thirds = {
        "low": (numbers <= first, f"at most {first:g}"),
        "middle": ((numbers > first) & (numbers <= second), f"{first:g} to {second:g}"),
        "high": (numbers > second, f"above {second:g}"),
    }
    for name, (rows, words) in thirds.items():
        yield Slice(name=f"{column}={name}", rule=f"{column} is {words}", rows=rows)
