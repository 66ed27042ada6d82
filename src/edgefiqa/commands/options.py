"""Options that several commands take: one flag, one meaning, one definition.

Where only the words differ, because a command writes a folder and another one a file, a function
returns the option and takes the words.
"""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

__all__ = [
    "Batch",
    "Calibration",
    "Evaluation",
    "FloatWeights",
    "Json",
    "Labels",
    "Limit",
    "MinCount",
    "MinSeconds",
    "OutDir",
    "Photos",
    "Policy",
    "RecordFile",
    "Reference",
    "Resamples",
    "ResumedDir",
    "Rounds",
    "RunDirectory",
    "Runtimes",
    "Seed",
    "Size",
    "Threads",
    "Turns",
    "Workers",
    "labels",
    "limit",
    "out",
    "size",
    "threads",
]


def out(help_text: str, *, default: str | None = None) -> Any:
    """Return the option ``--out``.

    Args:
        help_text: What is written there.
        default: Where it goes without the option, in words.
    """
    return typer.Option("--out", "-o", help=help_text, show_default=default or True)


def labels(help_text: str, *, default: str | None = None) -> Any:
    """Return the option ``--labels``; arguments as those of ``out``."""
    return typer.Option("--labels", help=help_text, show_default=default or True)


def limit(help_text: str) -> Any:
    """Return the option ``--limit``, at least 1."""
    return typer.Option("--limit", min=1, help=help_text)


def size(help_text: str, *, default: str | None = None) -> Any:
    """Return the option ``--size``, in pixels; arguments as those of ``out``."""
    return typer.Option("--size", help=help_text, show_default=default or True)


def threads(help_text: str, *, default: str | None = None) -> Any:
    """Return the option ``--threads``, at least 1; arguments as those of ``out``."""
    return typer.Option("--threads", min=1, help=help_text, show_default=default or True)


OutDir: TypeAlias = Annotated[Path, out("Folder to write to; it is made if it does not exist.")]

ResumedDir: TypeAlias = Annotated[
    Path, out("Folder to write to; the same command continues what was interrupted there.")
]

RecordFile: TypeAlias = Annotated[Path | None, out("File to write the record to, as JSON.")]

Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")
]

Workers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Number of worker processes.", show_default="one per core"
    ),
]

Seed: TypeAlias = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of every random choice; it can be repeated.")
]

Threads: TypeAlias = Annotated[int, threads("Number of threads of one inference.")]

Limit: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Use at most this many images, evenly spaced.", show_default="all"
    ),
]

Labels: TypeAlias = Annotated[
    Path | None,
    labels("Label file of the photographs; an image set brings its labels.", default="none"),
]

Size: TypeAlias = Annotated[
    int | None, size("Side of the model's input in pixels.", default="the model's size")
]

Photos: TypeAlias = Annotated[Path, typer.Option("--photos", help="Folder of photographs.")]

Runtimes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime",
        help="Use only this runtime; repeat the option for several: {runtimes}.",
        show_default="the usual runtime of each format",
    ),
]

Reference: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        help="Model directory of the float weights that the export was made from.",
        show_default="the default student",
    ),
]

Policy: TypeAlias = Annotated[
    str,
    typer.Option("--policy", help="Policy with the bounds: a YAML file, or one of {policies}."),
]

RunDirectory: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="Run directory: the records that `drift` or `bench latency` wrote."
    ),
]

Resamples: TypeAlias = Annotated[
    int,
    typer.Option("--resamples", min=1, help="Number of resamples of each bootstrap interval."),
]

Rounds: TypeAlias = Annotated[
    int, typer.Option("--rounds", min=1, help="How often each candidate is measured, in turns.")
]

Batch: TypeAlias = Annotated[
    int, typer.Option("--batch", min=1, help="Number of images in one forward pass.")
]

Turns: TypeAlias = Annotated[
    int, typer.Option("--turns", min=1, help="Number of turns that each file has in a round.")
]

MinCount: TypeAlias = Annotated[
    int, typer.Option("--min-count", min=1, help="Fewest inferences to time for each file.")
]

MinSeconds: TypeAlias = Annotated[
    float, typer.Option("--min-seconds", min=0, help="Shortest time to measure each file for.")
]

Calibration: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--calibration",
        help="Calibration set: an image set or photographs that activation ranges are taken from.",
    ),
]

Evaluation: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--evaluation",
        help="Other images, on which the new files are compared with the float model.",
    ),
]

FloatWeights: TypeAlias = Annotated[
    str,
    typer.Option(
        "--reference",
        help="Float weights that the export was made from: 'default' or a model directory.",
    ),
]
