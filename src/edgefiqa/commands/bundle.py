"""``edgefiqa bundle``: an export into the Android project, or into one ZIP file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.commands.terminal import say

__all__ = ["bundle"]


def bundle(
    run_dir: Annotated[Path, typer.Argument(help="What `edgefiqa convert` or the demo wrote.")],
    android: Annotated[
        Path | None, typer.Option(help="The Android project, android_demo: fill its assets.")
    ] = None,
    zip_file: Annotated[
        Path | None, typer.Option("--zip", help="Write a hand-over package to this file.")
    ] = None,
    sources: Annotated[
        Path, typer.Option(help="android_demo, whose Kotlin and Swift files go into the ZIP file.")
    ] = Path("android_demo"),
) -> None:
    """Hand an export on: to the Android app's assets, to a ZIP file, or both.

    Examples:
    `edgefiqa bundle runs/demo --android android_demo`

    `edgefiqa bundle runs/demo --zip scorer.zip`
    """
    from edgefiqa.bundling import bundle_android, bundle_zip
    from edgefiqa.errors import UsageError

    if android is None and zip_file is None:
        raise UsageError("nowhere to bundle to", next_step="add --android android_demo or --zip F")
    found = bundle_android(run_dir, android) if android is not None else []
    if zip_file is not None:
        found += bundle_zip(run_dir, zip_file, sources=sources)
    for file in found:
        say(f"{file.file}: {file.target or 'left out, ' + file.reason}")
