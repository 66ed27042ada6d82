"""Markdown for documents and reports: tables and headings, written in one way."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Table", "heading"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts.

    Attributes:
        heads: Titles of the columns.
        rows: As many texts each.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table in Markdown; line breaks and ``|`` in texts do not end a cell."""
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        cells = ((" ".join(cell.split()).replace("|", "\\|") for cell in line) for line in lines)
        return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def heading(text: str, level: int = 2) -> str:
    """Return a heading; a line break in the text does not end it."""
    return f"{'#' * level} {' '.join(text.split())}"
