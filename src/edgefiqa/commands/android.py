"""``edgefiqa android``: what concerns files for Android devices."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.commands.terminal import print_table, say

__all__ = ["app"]

app = typer.Typer(help="Check files for Android devices.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Check files for Android devices."""


@app.command("check-apk")
def check_apk(
    files: Annotated[list[Path], typer.Argument(help="APK, AAR, AAB or .so files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that native libraries load on devices with 16 KB memory pages.

    Exit code 1 if a 64-bit library does not. 32-bit libraries are listed as not checked.

    Example: `edgefiqa android check-apk app-litert-release.apk`
    """
    from edgefiqa.page_alignment import Outcome, check_file

    found = {path: check_file(path) for path in files}
    if as_json:
        rows = {str(path): [asdict(check) for check in checks] for path, checks in found.items()}
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_table(
            "16 KB pages",
            ("file", "library", "outcome", "detail"),
            (
                [path.name, check.library, check.outcome, check.detail]
                for path, checks in found.items()
                for check in checks
            ),
        )
    for path, checks in found.items():
        if not checks:
            say(f"{path.name} holds no native library")
    failed = sum(check.outcome is Outcome.FAILED for checks in found.values() for check in checks)
    if failed:
        say(f"{failed} libraries do not load on devices with 16 KB pages")
        raise typer.Exit(1)
