"""What commands show on a terminal: progress, messages, tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.progress import Progress

__all__ = ["print_table", "progress", "say", "show_record"]


def progress() -> Progress:
    """Return a progress bar on standard error, silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def say(text: str) -> None:
    """Print a message for the person, on standard error."""
    typer.echo(text, err=True)


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    # Piped output keeps every column: no terminal to fit.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)


def show_record(text: str, out: Path | None, *, as_json: bool) -> bool:
    """Write a record to a file, and print it where JSON was asked for.

    Args:
        text: The record as JSON.
        out: The file, if there is to be one.
        as_json: Whether standard output gets JSON.

    Returns:
        Whether a table is still to be printed.
    """
    from edgefiqa.files import write_text

    if as_json:
        typer.echo(text)
    if out is not None:
        write_text(out, text + "\n")
        say(f"wrote {out}")
    return not as_json
