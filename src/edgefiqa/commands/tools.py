"""``edgefiqa score``, ``models`` and ``demo``: commands that need nothing but photographs."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, progress, say

if TYPE_CHECKING:
    from edgefiqa.runtimes import Scorer

__all__ = ["demo", "models", "score"]

_SCORE_COLUMNS = ["image", "score", "error"]


def score(
    photos: Annotated[list[str], typer.Argument(help="Photographs, folders or glob patterns.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Scorer file (.onnx, .tflite, .pte, .mlpackage), model directory, or 'default': "
            "the student that ships with the package, which needs the extra torch.",
        ),
    ] = "default",
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            help="Runtime that executes the file: {runtimes}.",
            show_default="the usual runtime of the format",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        options.threads("Number of threads.", default="the processors available, at most 4"),
    ] = None,
    as_json: options.Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV with a header instead of text.")
    ] = False,
) -> None:
    """Score photographs: the higher the score, the better the face image.

    A photograph that cannot be scored becomes a row with the reason. The others are still scored,
    and the exit code is 1.

    Examples:
    `edgefiqa score --model student.tflite face.jpg`

    `edgefiqa score --json 'burst/*.jpg' | jq 'max_by(.score)'`
    """
    from edgefiqa.errors import UsageError
    from edgefiqa.photo_files import find_photos
    from edgefiqa.runtimes import load

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other", next_step="give one of them")
    paths = find_photos(photos)
    scorer = load(model, runtime=runtime, threads=threads)
    with progress() as bar:
        described = f"scoring with {scorer.runtime}"
        rows = [_score_photo(scorer, path) for path in bar.track(paths, description=described)]
    _write_scores(rows, as_json=as_json, as_csv=as_csv)
    failed = sum(row["score"] is None for row in rows)
    if failed:
        say(f"{failed} of {len(rows)} could not be scored")
        raise typer.Exit(1)


def _score_photo(scorer: Scorer, path: Path) -> dict[str, Any]:
    """Return a photograph's row: its score, or why it has none."""
    import math

    from edgefiqa.errors import DataError
    from edgefiqa.preprocess import load_tensor

    row: dict[str, Any] = {"image": str(path), "score": None, "error": None}
    try:
        value = float(scorer.score(load_tensor(path, scorer.size))[0])
    except DataError as error:
        return row | {"error": str(error)}
    if not math.isfinite(value):
        return row | {"error": f"the model's score is {value}"}
    return row | {"score": value}


def _write_scores(rows: list[dict[str, Any]], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, _SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for row in rows:
            value = "failed" if row["score"] is None else f"{row['score']:.4f}"
            reason = f"  {row['error']}" if row["error"] else ""
            typer.echo(f"{value:>8}  {row['image']}{reason}")


def models(size: options.Size = None, as_json: options.Json = False) -> None:
    """List the architectures with their parameters and GFLOPs beside the published figures.

    GFLOPs are counted as fvcore counts them: one multiply-add is one operation.

    Example: `edgefiqa models --size 288`
    """
    from edgefiqa.models import MODELS
    from edgefiqa.preprocess import check_size

    if size is not None:
        check_size(size)
    with progress() as bar:
        names = bar.track(list(MODELS), description="counting")
        rows = [_model_row(name, size) for name, _ in names]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print_models(rows)


def _model_row(name: str, size: int | None) -> dict[str, Any]:
    from edgefiqa.models import MODELS, build, measure_cost

    spec = MODELS.get(name)
    side = size or spec.size
    cost = measure_cost(build(name), side)
    return {
        "name": name,
        "size": side,
        "parameters": cost.parameters,
        "gflops": round(cost.gflops, 4),
        "published_parameters_millions": spec.published_parameters,
        "published_gflops": dict(spec.published_gflops).get(side),
        "source": spec.source,
        "note": spec.note,
    }


def _print_models(rows: list[dict[str, Any]]) -> None:
    print_table(
        "Models (GFLOPs: fvcore, 1 multiply-add = 1; '-' = not printed at this size)",
        ("model", "size", "parameters", "GFLOPs", "published M", "published GFLOPs", "source"),
        (
            [
                row["name"],
                str(row["size"]),
                f"{row['parameters']:,}",
                f"{row['gflops']:.4f}",
                str(row["published_parameters_millions"] or "-"),
                str(row["published_gflops"] or "-"),
                row["source"],
            ]
            for row in rows
        ),
    )
    for row in rows:
        if row["note"]:
            typer.echo(f"{row['name']}: {row['note']}")
    typer.echo("Any timm backbone is a model too: timm:<name>, for example timm:edgenext_x_small")


def demo(
    out: options.ResumedDir = Path("runs/demo"),
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            help="Folder of your face photographs.",
            show_default="photographs from installed packages, mostly without faces",
        ),
    ] = None,
) -> None:
    """Run the whole pipeline with the default student and write one report.

    Converts it to every format, makes INT8 files, and measures latency and drift: about ten
    minutes. Finished steps are kept. An INT8 file that the policy refuses is a row of the report.

    Example: `edgefiqa demo --photos my_photos/`
    """
    from edgefiqa.demo import run

    done = run(out, photos, say=say)
    for name, seconds in done.seconds.items():
        say(f"{seconds:7.1f} s  {name}")
    say(f"{sum(done.seconds.values()):7.1f} s  in all")
    for failure in done.failures:
        say(f"not measured: {failure.cell}: {failure.error}")
    typer.echo(done.report)
    say(f"the same for machines: edgefiqa report|gate|compare {out}")
