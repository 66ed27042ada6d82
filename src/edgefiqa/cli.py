"""The command ``edgefiqa``: parses, calls, prints. Nothing else happens here."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edgefiqa import __version__
from edgefiqa.commands import android, bench, bundle, data, distill, measure, training
from edgefiqa.commands import label as labelling
from edgefiqa.commands import quantize as quantizing
from edgefiqa.commands.terminal import print_table, progress, say
from edgefiqa.errors import EdgeFiqaError, UsageError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Train, convert and verify small face image quality scorers for phones and edge devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_OUT = typer.Option("--out", "-o", help="Directory to write to; made if needed.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgefiqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. Works anywhere.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Train, convert and verify small face image quality scorers for phones and edge devices."""


@app.command()
def models(
    size: Annotated[
        int | None, typer.Option(help="Input side in pixels; each model's own if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the architectures with parameters and GFLOPs beside the published figures.

    GFLOPs by fvcore's convention: one multiply-add counts once.

    Example: `edgefiqa models --size 288`
    """
    from edgefiqa.models import MODELS, build, measure_cost
    from edgefiqa.preprocess import check_size

    if size is not None:
        check_size(size)
    rows: list[dict[str, Any]] = []
    with progress() as bar:
        for name, spec in bar.track(list(MODELS), description="counting"):
            side = size or spec.size
            cost = measure_cost(build(name), side)
            rows.append(
                {
                    "name": name,
                    "size": side,
                    "parameters": cost.parameters,
                    "gflops": round(cost.gflops, 4),
                    "published_parameters_millions": spec.published_parameters,
                    "published_gflops": dict(spec.published_gflops).get(side),
                    "source": spec.source,
                    "note": spec.note,
                }
            )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("model", "size", "parameters", "GFLOPs", "published M", "published GFLOPs", "source")
    print_table(
        "Models (GFLOPs: fvcore, 1 multiply-add = 1; '-' = not printed at this size)",
        columns,
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


@app.command("import")
def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A published .pt or .pth file.")],
    model: Annotated[str, typer.Option(help="Architecture, a name of `edgefiqa models`.")],
    out: Annotated[Path, _OUT],
    size: Annotated[
        int | None, typer.Option(help="Input side in pixels; the model's own if not given.")
    ] = None,
) -> None:
    """Turn a published Efficient-FIQA checkpoint into a model directory.

    The pickle is opened with `weights_only=True`; nothing in it is executed.

    Example: `edgefiqa import student.pt --model efficient-fiqa-student --size 352 --out student`
    """
    from edgefiqa.models import import_checkpoint

    card = import_checkpoint(checkpoint, model_name=model, size=size, out=out)
    say(f"no missing and no unexpected keys; wrote {out} (sha256 {card.sha256[:16]}…)")


@app.command()
def convert(
    model: Annotated[
        str, typer.Argument(help="'default', a model directory or a .safetensors file.")
    ],
    out: Annotated[Path, _OUT],
    to: Annotated[
        str,
        typer.Option(
            help="Formats, separated by commas: onnx, tflite, tflite-tf, executorch, "
            "executorch-coreml, coreml."
        ),
    ] = "onnx,tflite,executorch,coreml",
    size: Annotated[
        int | None, typer.Option(help="Input side in pixels; the card's if not given.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of photographs for the parity check, besides the built-in one."),
    ] = None,
    photo_limit: Annotated[
        int, typer.Option(min=1, help="At most this many of them, evenly spaced.")
    ] = 100,
) -> None:
    """Export a model, run each file in its own runtime, and compare it with torch.

    A file that disagrees is not written. Beside the files: `manifest.json` and golden vectors.

    Examples:
    `edgefiqa convert default --to tflite,coreml --out export`

    `edgefiqa convert student/ --size 288 --photos faces/ --out export`
    """
    from edgefiqa.convert.targets import parse_targets

    targets = parse_targets(to)
    from edgefiqa.convert.run import run

    with progress() as bar:
        steps = sum(len(target.precisions) for target in targets)
        task = bar.add_task("reading the model and the photographs", total=steps)
        manifest = run(
            model,
            targets,
            out=out,
            size=size,
            photos=photos,
            photo_limit=photo_limit,
            on_start=lambda name: bar.update(task, description=f"exporting {name}"),
            on_done=lambda _artifact: bar.advance(task),
        )
    rows = []
    for artifact in manifest.artifacts:
        for parity in artifact.parity:
            error = f"{parity.max_abs_error:.1e} (allowed {parity.tolerance:g} · max(1, |score|))"
            shown = [artifact.file, f"{artifact.size_bytes / 1e6:.2f} MB", parity.runtime]
            rows.append([*shown, str(parity.images), error])
        for missing in artifact.not_executed:
            shown = [artifact.file, f"{artifact.size_bytes / 1e6:.2f} MB", missing.runtime]
            rows.append([*shown, "-", f"not executed: {missing.reason}"])
    print_table(
        "Largest |score − torch| on real photographs",
        ("file", "size", "runtime", "images", "largest difference"),
        rows,
    )
    say(f"wrote {out}: {len(manifest.artifacts)} file(s), manifest.json, goldens/")


def _write_scores(rows: list[dict[str, Any]], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, ["image", "score", "error"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        for row in rows:
            score = "failed" if row["score"] is None else f"{row['score']:.4f}"
            typer.echo(f"{score:>8}  {row['image']}{'  ' + row['error'] if row['error'] else ''}")


@app.command()
def score(
    photos: Annotated[list[str], typer.Argument(help="Photographs, folders or globs.")],
    model: Annotated[
        str,
        typer.Option(
            help="A scorer file (.onnx .tflite .pte .mlpackage), a model directory, or "
            "'default', the student that ships with the package (needs the extra torch)."
        ),
    ] = "default",
    runtime: Annotated[
        str | None, typer.Option(help="Another runtime than the format's own: tensorflow.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; the processors available, at most 4.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Score photographs: higher is better, trained on labels in 0..1.

    A file that cannot be scored is one line with the reason; the others are still scored, and the
    exit code is 1.

    Examples:
    `edgefiqa score --model student.tflite face.jpg`

    `edgefiqa score --json 'burst/*.jpg' | jq 'max_by(.score)'`
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other", next_step="give one of them")
    from edgefiqa.errors import DataError
    from edgefiqa.photo_files import find_photos
    from edgefiqa.preprocess import load_tensor
    from edgefiqa.runtimes import load

    paths = find_photos(photos)
    scorer = load(model, runtime=runtime, threads=threads)
    rows: list[dict[str, Any]] = []
    with progress() as bar:
        for path in bar.track(paths, description=f"scoring with {scorer.runtime}"):
            row: dict[str, Any] = {"image": str(path), "score": None, "error": None}
            try:
                value = float(scorer.score(load_tensor(path, scorer.size))[0])
                if value - value == 0:  # finite
                    row["score"] = value
                else:
                    row["error"] = f"the model's score is {value}"
            except DataError as error:
                row["error"] = str(error)
            rows.append(row)
    _write_scores(rows, as_json=as_json, as_csv=as_csv)
    failed = sum(row["score"] is None for row in rows)
    if failed:
        say(f"{failed} of {len(rows)} could not be scored")
        raise typer.Exit(1)


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="What `edgefiqa convert` wrote.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail too where something cannot be checked here.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check an export again: hashes, metadata, golden vectors, each runtime that is installed.

    Exit code 0 if nothing failed, 1 otherwise. What cannot be checked here is counted and shown.

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


@app.command()
def demo(
    out: Annotated[Path, _OUT] = Path("runs/demo"),
    faces: Annotated[
        Path | None,
        typer.Option(
            help="A folder of your own photographs; without: bundled ones, mostly no faces."
        ),
    ] = None,
) -> None:
    """Show the whole way: the default student in every format, float and INT8, and one report.

    Convert, quantise, latency, drift: about ten minutes. What is finished is kept. A file that the
    policy of INT8 refuses is a row of the report.

    Example: `edgefiqa demo --faces my_photos/`
    """
    from edgefiqa.demo import run

    demo = run(out, faces, say=say)
    for name, seconds in demo.seconds.items():
        say(f"{seconds:7.1f} s  {name}")
    say(f"{sum(demo.seconds.values()):7.1f} s  in all")
    for failure in demo.failures:
        say(f"not measured: {failure.cell}: {failure.error}")
    typer.echo(demo.report)
    say(f"the same for machines: edgefiqa report|gate|compare {out}")


app.add_typer(data.app, name="data")
app.add_typer(android.app, name="android")
app.add_typer(bench.app, name="bench")
app.command()(bundle.bundle)
app.command("train")(training.train)
app.command("label")(labelling.label)
app.add_typer(distill.app, name="distill")
app.command("quantize")(quantizing.quantize)
for _command in (
    measure.drift,
    measure.waterfall,
    measure.layers,
    measure.gate,
    measure.compare,
    measure.report,
):
    app.command(_command.__name__)(_command)


def _fail(text: str, code: int) -> NoReturn:
    say(f"error: {text}")
    sys.exit(code)


def main() -> None:
    """Run the command line; every expected fault is one line and an exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments, prog_name="edgefiqa")
    except EdgeFiqaError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if debug:
            raise
        _fail(
            f"internal fault ({type(error).__name__}: {error}). Next: run it with --debug and "
            "report the traceback",
            1,
        )
