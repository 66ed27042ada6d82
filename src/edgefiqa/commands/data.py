"""``edgefiqa data``: from photographs and label files to sets that training can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands.terminal import print_table, say
from edgefiqa.data.label_files import LabelLayout
from edgefiqa.workers import processor_count

if TYPE_CHECKING:
    from edgefiqa.data.check_report import CheckReport

__all__ = ["app"]

app = typer.Typer(
    name="data",
    help="Check photos and labels, and build the sets that training reads.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_FOLDER = typer.Argument(metavar="DIR", help="Folder of the photos.", show_default=False)
_WORKERS = typer.Option(min=1, help="Processes.", show_default="one per core")


@app.command()
def check(
    folder: Annotated[Path, _FOLDER],
    labels: Annotated[
        Path | None, typer.Option(help="Label file.", show_default="the only one in DIR")
    ] = None,
    layout: Annotated[
        LabelLayout | None, typer.Option(help="Its layout.", show_default="recognised")
    ] = None,
    score_range: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", help="Lowest and highest score.", show_default="the layout's"),
    ] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="There are no labels.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Where check.json and manifest.jsonl go.", show_default="DIR"
        ),
    ] = None,
    held_back: Annotated[
        float, typer.Option(min=0, max=1, help="Share of near-duplicate clusters held back.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 42,
    duplicate_bits: Annotated[
        int, typer.Option(min=0, max=255, help="Differing bits of 256 up to which photos are one.")
    ] = 40,
    workers: Annotated[int | None, _WORKERS] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print check.json, no table.")] = False,
) -> None:
    """Find missing, unreadable, doubled and mislabelled photos, and write a clean manifest.

    Ends with 1 where the set cannot be used: more than 1 % unreadable photos, labels that are no
    numbers, constant labels. Otherwise counts what it left out and ends with 0.

    For example:

        edgefiqa data check vquala/train --labels vquala/train.csv

        edgefiqa data check PIQ23 --labels Scores_Overall.csv --layout piq23 --out checked

        edgefiqa data check phone_photos --unlabelled
    """
    from edgefiqa.data.check import check_labelled, check_unlabelled
    from edgefiqa.data.check_report import CheckPlan, require_usable, write_report
    from edgefiqa.errors import DataError, UsageError

    if unlabelled and (labels or layout or score_range):
        what = "--unlabelled excludes --labels, --layout and --range"
        raise UsageError(what, next_step="leave one of them out")
    if not folder.is_dir():
        raise DataError("there is no such folder", value=folder, next_step="check the path")
    plan = CheckPlan(held_back_share=held_back, seed=seed, duplicate_bits=duplicate_bits)
    if unlabelled:
        report = check_unlabelled(folder, plan=plan, workers=workers)
    else:
        report = check_labelled(
            folder, labels, layout, score_range=score_range, plan=plan, workers=workers
        )
    write_report(report, out or folder)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        _show(report, out or folder)
    require_usable(report)


def _show(report: CheckReport, out: Path) -> None:
    """Print what was found: each kind with its count and first cases."""
    from rich.markup import escape

    rows = []
    for kind, count in report.counts.items():
        cases = [finding for finding in report.findings if finding.kind == kind][:3]
        lines = [f"{c.image}{f' (line {c.line})' if c.line else ''}: {c.detail}" for c in cases]
        text = "\n".join(line.removeprefix(": ") for line in lines)
        # File names are bytes to Linux and may be no valid text.
        printable = text.encode(errors="backslashreplace").decode()
        rows.append((kind, str(count), escape(printable)))
    print_table(f"findings in {report.folder}", ("finding", "count", "first cases"), rows)
    facts = report.to_dict()
    splits = ", ".join(f"{count} {name}" for name, count in facts["splits"].items())
    if report.faults:
        say(f"not usable; every finding is in {out / 'check.json'}")
    else:
        say(f"{facts['kept']} photos in {facts['clusters']} clusters ({splits})")
        say(f"wrote {out / 'manifest.jsonl'} and {out / 'check.json'}")


@app.command()
def pack(
    folder: Annotated[Path, _FOLDER],
    out: Annotated[Path, typer.Option("--out", "-o", help="The image set.", show_default=False)],
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest of a check.", show_default="manifest.jsonl in DIR, if any"),
    ] = None,
    size: Annotated[int, typer.Option(help="Short side in pixels.")] = 288,
    workers: Annotated[int | None, _WORKERS] = None,
) -> None:
    """Decode and resize photos once, into an image set that training maps into memory.

    Killed and started again, it goes on where it stopped.

    For example:

        edgefiqa data pack vquala/train --size 288 --out sets/vquala_288

        edgefiqa data pack PIQ23 --manifest checked/manifest.jsonl --size 448 --out sets/piq23_448
    """
    from edgefiqa.data.pack import pack_photos

    if manifest is None and (folder / "manifest.jsonl").is_file():
        manifest = folder / "manifest.jsonl"
    if manifest is None:
        say("no manifest: every photo is packed, without labels")
    images = pack_photos(folder, manifest, out, size, workers or processor_count())
    skipped = images.meta["skipped"]
    for record in skipped[:5]:
        say(f"skipped {record['photo']}: {record['error']}")
    say(f"packed {len(images)} photos into {out}, skipped {len(skipped)}")


@app.command()
def degrade(
    folder: Annotated[Path, _FOLDER],
    out: Annotated[Path, typer.Option("--out", "-o", help="The image set.", show_default=False)],
    faces: Annotated[
        Path | None,
        typer.Option(
            help="CSV of face boxes: name, face_x, face_y, face_w, face_h.",
            show_default="faces.csv in the folder or beside it; else whole photos",
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 288,
    variants: Annotated[int, typer.Option(min=1, help="Copies of each training photo.")] = 6,
    first_variant: Annotated[
        int, typer.Option(min=0, help="Number of the first: sets with other numbers share none.")
    ] = 0,
    held_back_variants: Annotated[
        int, typer.Option(min=0, help="Copies of each held-back photo.")
    ] = 3,
    held_out_variants: Annotated[
        int, typer.Option(min=0, help="Copies of each held-back photo for each left-out kind.")
    ] = 2,
    left_out: Annotated[
        str, typer.Option(help="Kinds of degradation that training never sees; may be empty.")
    ] = "banding,defocus",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Training photos only, and no labels: fast.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of split and variants.")] = 42,
    workers: Annotated[int | None, _WORKERS] = None,
) -> None:
    """Degrade pristine photos in many ways and label each copy against its original.

    Labels combine full-reference metrics (HaarPSI, MS-SSIM, VIF, GMSD): how much a copy lost, not
    what people think. The same seed gives the same bytes. Killed and started again, it goes on
    where it stopped.

    For example:

        edgefiqa data degrade portraits --out sets/labelled

        edgefiqa data degrade portraits --unlabelled --variants 5 --first-variant 6 --out sets/more
    """
    from edgefiqa.data.corpus import CorpusPlan, build_corpus, parse_kinds

    plan = CorpusPlan(
        size=size,
        seed=seed,
        variants=variants,
        first_variant=first_variant,
        held_back_variants=0 if unlabelled else held_back_variants,
        held_out_variants=0 if unlabelled else held_out_variants,
        left_out=parse_kinds(left_out),
        labelled=not unlabelled,
    )
    images = build_corpus(
        folder, out, faces_csv=faces, plan=plan, workers=workers or processor_count()
    )
    if not images.meta["face_boxes"]:
        say("no face boxes: whole photos were used")
    splits = ", ".join(f"{n} {split}" for split, n in images.meta["splits"].items() if n)
    say(f"made {len(images)} images of {images.meta['photos']} photos in {out} ({splits})")
