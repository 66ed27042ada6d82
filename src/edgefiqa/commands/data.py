"""``edgefiqa data``: from photographs and label files to sets that training can use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefiqa.commands import options
from edgefiqa.commands.terminal import print_table, say
from edgefiqa.data.label_files import LabelLayout
from edgefiqa.workers import processor_count

if TYPE_CHECKING:
    from edgefiqa.data.check_report import CheckReport
    from edgefiqa.data.image_set import ImageSet

__all__ = ["check", "degrade", "pack"]

_Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of the photographs.", show_default=False)
]
_LabelFile = Annotated[
    Path | None,
    options.labels(
        "Label file: the score of each photograph.", default="the only label file in DIR"
    ),
]
_Layout = Annotated[
    LabelLayout | None,
    typer.Option(
        "--layout", help="Layout of the label file.", show_default="recognised from its content"
    ),
]
_ScoreRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--score-range",
        metavar="LOW HIGH",
        help="Lowest and highest score that the labels can have.",
        show_default="the layout's",
    ),
]
_Unlabelled = Annotated[
    bool, typer.Option("--unlabelled", help="Check photographs that have no labels.")
]
_CheckOut = Annotated[
    Path | None, options.out("Folder for check.json and manifest.jsonl.", default="DIR")
]
_HeldBack = Annotated[
    float,
    typer.Option(
        "--held-back",
        min=0,
        max=1,
        help="Share of the clusters of near-duplicates that is kept for testing.",
    ),
]
_DuplicateBits = Annotated[
    int,
    typer.Option(
        "--duplicate-bits",
        min=0,
        max=255,
        help="Photographs are near-duplicates if at most this many of their 256 hash bits differ.",
    ),
]


def check(
    folder: _Folder,
    labels: _LabelFile = None,
    layout: _Layout = None,
    score_range: _ScoreRange = None,
    unlabelled: _Unlabelled = False,
    out: _CheckOut = None,
    held_back: _HeldBack = 0.2,
    seed: options.Seed = 42,
    duplicate_bits: _DuplicateBits = 40,
    workers: options.Workers = None,
    as_json: options.Json = False,
) -> None:
    """Find missing, unreadable, duplicate and mislabelled photographs, and write a manifest.

    The manifest lists the usable photographs. Exit code 1 if the set as a whole cannot be used:
    more than 1 % unreadable photographs, labels that are not numbers, or constant labels. What is
    left out otherwise is counted, and the exit code is 0.

    Examples:
    `edgefiqa data check vquala/train --labels vquala/train.csv`

    `edgefiqa data check PIQ23 --labels Scores_Overall.csv --layout piq23 --out checked`

    `edgefiqa data check phone_photos --unlabelled`
    """
    from edgefiqa.data.check import check_labelled, check_unlabelled
    from edgefiqa.data.check_report import CheckPlan, require_usable, write_report
    from edgefiqa.errors import DataError, UsageError

    if unlabelled and (labels or layout or score_range):
        what = "--unlabelled excludes --labels, --layout and --score-range"
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
        _print_report(report, out or folder)
    require_usable(report)


def _print_report(report: CheckReport, out: Path) -> None:
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


def pack(
    folder: _Folder,
    out: options.ResumedDir,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            help="Manifest that `edgefiqa data check` wrote.",
            show_default="manifest.jsonl in DIR; without it, all photographs, unlabelled",
        ),
    ] = None,
    size: Annotated[
        int, options.size("Length of the short side of each packed image, in pixels.")
    ] = 288,
    workers: options.Workers = None,
) -> None:
    """Decode and resize photographs once, into an image set that training maps into memory.

    An interrupted run continues where it stopped.

    Examples:
    `edgefiqa data pack vquala/train --size 288 --out sets/vquala_288`

    `edgefiqa data pack PIQ23 --manifest checked/manifest.jsonl --size 448 --out sets/piq23_448`
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


_FaceBoxes = Annotated[
    Path | None,
    typer.Option(
        "--faces",
        help="CSV file of face boxes, with the columns name, face_x, face_y, face_w, face_h.",
        show_default="faces.csv in the folder or beside it; without it, whole photographs",
    ),
]
_CorpusSize = Annotated[int, options.size("Side of the square images, in pixels.")]
_Variants = Annotated[
    int,
    typer.Option("--variants", min=1, help="Number of degraded copies of each training photo."),
]
_FirstVariant = Annotated[
    int,
    typer.Option(
        "--first-variant",
        min=0,
        help="Number of the first copy; sets with different numbers have no copy in common.",
    ),
]
_HeldBackVariants = Annotated[
    int,
    typer.Option(
        "--held-back-variants", min=0, help="Number of degraded copies of each held-back photo."
    ),
]
_HeldOutVariants = Annotated[
    int,
    typer.Option(
        "--held-out-variants",
        min=0,
        help="Number of copies of each held-back photo for each left-out kind of degradation.",
    ),
]
_LeftOut = Annotated[
    str,
    typer.Option(
        "--left-out",
        help="Kinds of degradation that training never sees, separated by commas; may be empty. "
        "Kinds: {degradations}.",
    ),
]
_WithoutLabels = Annotated[
    bool,
    typer.Option("--unlabelled", help="Make training images only, without labels: much faster."),
]


def degrade(
    folder: _Folder,
    out: options.ResumedDir,
    faces: _FaceBoxes = None,
    size: _CorpusSize = 288,
    variants: _Variants = 6,
    first_variant: _FirstVariant = 0,
    held_back_variants: _HeldBackVariants = 3,
    held_out_variants: _HeldOutVariants = 2,
    left_out: _LeftOut = "banding,defocus",
    unlabelled: _WithoutLabels = False,
    seed: options.Seed = 42,
    workers: options.Workers = None,
) -> None:
    """Make degraded copies of pristine photographs and label each one against its original.

    The labels combine full-reference metrics (HaarPSI, MS-SSIM, VIF, GMSD): they say how much a
    copy lost, not what people think of it. The same seed gives the same bytes. An interrupted run
    continues where it stopped.

    Examples:
    `edgefiqa data degrade portraits --out sets/labelled`

    `edgefiqa data degrade portraits --unlabelled --variants 5 --first-variant 6 --out sets/more`
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
    _say_what_was_made(images, out)


def _say_what_was_made(images: ImageSet, out: Path) -> None:
    if not images.meta["face_boxes"]:
        say("no face boxes: whole photos were used")
    splits = ", ".join(f"{n} {split}" for split, n in images.meta["splits"].items() if n)
    say(f"made {len(images)} images of {images.meta['photos']} photos in {out} ({splits})")
