"""``edgefiqa import``, ``convert`` and ``verify``: weights in, checked scorer files out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgefiqa.manifest import Manifest

__all__ = ["convert", "import_", "verify"]


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint, a .pt or .pth file.")],
    model: Annotated[
        str, typer.Option("--model", help="Architecture: a name that `edgefiqa models` lists.")
    ],
    out: options.OutDir,
    size: options.Size = None,
) -> None:
    """Turn a published Efficient-FIQA checkpoint into a model directory.

    The pickle is opened with `weights_only=True`, so nothing in it is executed.

    Example: `edgefiqa import student.pt --model efficient-fiqa-student --size 352 --out student`
    """
    from edgefiqa.models import import_checkpoint

    card = import_checkpoint(checkpoint, model_name=model, size=size, out=out)
    say(f"no missing and no unexpected keys; wrote {out} (sha256 {card.sha256[:16]}…)")


def convert(
    model: Annotated[
        str, typer.Argument(help="'default', a model directory or a .safetensors file.")
    ],
    out: options.OutDir,
    to: Annotated[
        str, typer.Option("--to", help="Formats, separated by commas: {formats}.")
    ] = "onnx,tflite,executorch,coreml",
    size: Annotated[
        int | None, options.size("Side of the input in pixels.", default="the model card's")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            help="Folder of photographs to compare scores on, besides the built-in photograph.",
        ),
    ] = None,
    limit: Annotated[
        int, options.limit("Use at most this many of these photographs, evenly spaced.")
    ] = 100,
) -> None:
    """Export a model, run each file in its runtime, and compare its scores with torch's.

    A file whose scores differ from torch's is not written. `manifest.json` and golden vectors are
    written beside the files.

    Examples:
    `edgefiqa convert default --to tflite,coreml --out export`

    `edgefiqa convert student/ --size 288 --photos faces/ --out export`
    """
    from edgefiqa.convert import parse_targets

    targets = parse_targets(to)
    # After the targets: this imports torch, and a typing error is to be told at once.
    from edgefiqa.convert import export_model

    with progress() as bar:
        steps = sum(len(target.precisions) for target in targets)
        task = bar.add_task("reading the model and the photographs", total=steps)
        manifest = export_model(
            model,
            targets,
            out=out,
            size=size,
            photos=photos,
            photo_limit=limit,
            on_start=lambda name: bar.update(task, description=f"exporting {name}"),
            on_done=lambda _artifact: bar.advance(task),
        )
    print_table(
        "Largest |score − torch| on real photographs",
        ("file", "size", "runtime", "images", "largest difference"),
        _parity_rows(manifest),
    )
    say(f"wrote {out}: {len(manifest.artifacts)} file(s), manifest.json, goldens/")


def _parity_rows(manifest: Manifest) -> Iterator[list[str]]:
    for artifact in manifest.artifacts:
        file = [artifact.file, f"{artifact.size_bytes / 1e6:.2f} MB"]
        for parity in artifact.parity:
            error = f"{parity.max_abs_error:.1e} (allowed {parity.tolerance:g} · max(1, |score|))"
            yield [*file, parity.runtime, str(parity.images), error]
        for missing in artifact.not_executed:
            yield [*file, missing.runtime, "-", f"not executed: {missing.reason}"]


def verify(
    directory: Annotated[
        Path, typer.Argument(help="Export directory that `edgefiqa convert` wrote.")
    ],
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also fail where a file cannot be checked on this machine."),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check an export again: hashes, metadata, golden vectors, each runtime that is installed.

    Exit code 0 if no check failed, 1 otherwise. Checks that are not possible on this machine are
    counted and shown.

    Example: `edgefiqa verify export`
    """
    from dataclasses import asdict

    from edgefiqa.verify import Status
    from edgefiqa.verify import verify as run_checks

    checks = list(run_checks(directory))
    count = {status: sum(check.status is status for check in checks) for status in Status}
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    else:
        print_table(
            str(directory),
            ("file", "check", "result", "detail"),
            ([check.subject, check.check, check.status.value, check.detail] for check in checks),
        )
    say(", ".join(f"{number} {status.value}" for status, number in count.items()))
    if count[Status.FAILED] or (strict and count[Status.NOT_CHECKED]):
        raise typer.Exit(1)
