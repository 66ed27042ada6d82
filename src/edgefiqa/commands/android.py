"""``edgefiqa android`` and ``bundle``: what concerns the Android demo and its files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, say

__all__ = ["bundle", "check_apk"]


def check_apk(
    files: Annotated[list[Path], typer.Argument(help="APK, AAR, AAB or .so files.")],
    as_json: options.Json = False,
) -> None:
    """Check that native libraries load on devices with 16 KB memory pages.

    Exit code 1 if a 64-bit library does not load there. 32-bit libraries are listed as not checked.

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


def bundle(
    run_dir: Annotated[
        Path, typer.Argument(help="Folder that `edgefiqa convert` or `edgefiqa demo` wrote.")
    ],
    android: Annotated[
        Path | None,
        typer.Option("--android", help="Android project to fill the assets of: android_demo."),
    ] = None,
    zip_file: Annotated[
        Path | None, typer.Option("--zip", help="ZIP file to write a hand-over package to.")
    ] = None,
    sources: Annotated[
        Path,
        typer.Option(
            "--sources", help="Android project whose Kotlin and Swift files go into the ZIP file."
        ),
    ] = Path("android_demo"),
) -> None:
    """Copy exported files into the Android project's assets, into a ZIP file, or both.

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
