"""Print each stage's line coverage and its gaps from coverage's JSON; fail below the least.

Usage: coverage_table.py COVERAGE_JSON [LEAST_PERCENT]
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

STAGES = ("train", "distill", "convert", "quantize", "benchmarks", "core")
LEAST = 90.0
GAPS_SHOWN = 15  # files of a stage, those with most lines first


@dataclass(frozen=True)
class CoveredFile:
    """One source file: how many of its lines were executed, and which were not."""

    path: str
    executed: int
    missing: tuple[int, ...]

    @property
    def stage(self) -> str:
        """The stage's folder at the root, or ``core``."""
        first = PurePosixPath(self.path).parts[0]
        return first if first in STAGES else "core"


def read(path: Path) -> list[CoveredFile]:
    """Read what ``coverage json`` wrote."""
    files: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["files"]
    return [
        CoveredFile(name, len(file["executed_lines"]), tuple(file["missing_lines"]))
        for name, file in files.items()
    ]


def join_lines(lines: Iterable[int]) -> Iterator[str]:
    """Shorten line numbers that follow each other: 3, 4, 5 → ``3-5``."""
    numbers = set(lines)
    starts = sorted(line for line in numbers if line - 1 not in numbers)
    ends = sorted(line for line in numbers if line + 1 not in numbers)
    for start, end in zip(starts, ends, strict=True):
        yield str(start) if start == end else f"{start}-{end}"


def percent(files: Iterable[CoveredFile]) -> float | None:
    """Return the share of lines that were executed, or None of no lines."""
    given = list(files)
    executed = sum(file.executed for file in given)
    lines = executed + sum(len(file.missing) for file in given)
    return 100 * executed / lines if lines else None


def print_table(files: list[CoveredFile], least: float) -> list[str]:
    """Print the table and the gaps; return the stages below `least`, or without any line."""
    below = []
    print(f"{'stage':12}{'files':>6}{'lines':>8}{'missing':>9}{'covered':>9}")
    for stage in STAGES:
        members = [file for file in files if file.stage == stage]
        missing = sum(len(file.missing) for file in members)
        lines = missing + sum(file.executed for file in members)
        share = percent(members)
        shown = "none" if share is None else f"{share:.1f} %"
        print(f"{stage:12}{len(members):6}{lines:8}{missing:9}{shown:>9}")
        if share is None or share < least:
            below.append(stage)
    for stage in STAGES:
        gaps = sorted(
            (file for file in files if file.stage == stage and file.missing),
            key=lambda file: -len(file.missing),
        )
        print(f"\n{stage}: {len(gaps)} files with lines that no test executes")
        for file in gaps[:GAPS_SHOWN]:
            print(f"  {file.path}: {', '.join(join_lines(file.missing))}")
    return below


def main(path: Path, least: float = LEAST) -> int:
    """Print the table; return the exit code."""
    below = print_table(read(path), least)
    if below:
        print(f"\nerror: below {least:g} % of lines: {', '.join(below)}", file=sys.stderr)
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(float, sys.argv[2:])))
