"""What a check of photos and labels found, as files.

::

    CheckReport ──write_report──▶ check.json: every finding; manifest.jsonl: the clean set
              └──require_usable─▶ DataError where training must not go
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgefiqa.data.image_set import Split, full_disk_named
from edgefiqa.data.label_files import LabelFile
from edgefiqa.errors import DataError
from edgefiqa.files import sha256_of, write_text

__all__ = [
    "CheckPlan",
    "CheckReport",
    "Finding",
    "FindingKind",
    "ManifestRow",
    "require_usable",
    "write_report",
]


class FindingKind(StrEnum):
    """What can be wrong, in the order in which reports list it."""

    NOT_A_NUMBER = "not a number"
    OUT_OF_RANGE = "out of range"
    CONSTANT = "constant labels"
    MISSING = "missing photo"
    UNREADABLE = "unreadable photo"
    REPEATED = "repeated row"
    DUPLICATE = "exact duplicate"
    CONFLICT = "copies with different labels"
    NEAR_DUPLICATE = "near duplicate"
    NO_LABEL = "photo without label"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found.

    Attributes:
        kind: What it is.
        image: The photo, relative to the folder, or as the label file names it.
        line: Line of the label file, none where no line is at fault.
        detail: More, for people.
    """

    kind: FindingKind
    image: str
    line: int | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class CheckPlan:
    """What decides the splits and what counts as a copy.

    Attributes:
        held_back_share: Share of the near-duplicate clusters that is held back.
        seed: Seed of the split.
        duplicate_bits: Photos whose 256-bit hashes differ by at most this are near duplicates.
            Of two thousand portraits only true copies were linked by 40 bits; by 50 chance begins
            to link, by 80 it links most of them. Resized or recompressed copies differ in fewer
            than 20.
    """

    held_back_share: float = 0.2
    seed: int = 42
    duplicate_bits: int = 40


@dataclass(frozen=True, kw_only=True)
class ManifestRow:
    """One usable photo.

    Attributes:
        image: Path relative to the folder, with forward slashes.
        score: Its label on the label file's scale, none in unlabelled sets.
        range: Lowest and highest score of that scale, none where it is open.
        sha256: SHA-256 of the file.
        cluster: Row of the first near duplicate, the photo's row if there is none.
        split: Training or held back.
        line: Line of the label file.
    """

    image: str
    score: float | None
    range: tuple[float, float] | None
    sha256: str
    cluster: int
    split: Split
    line: int | None


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a check found.

    Attributes:
        folder: The photos.
        labels: The label file, none in unlabelled sets.
        plan: How copies and splits were decided.
        photos: How many photos the folder holds.
        inspected: How many of them were decoded.
        findings: Everything found, in the order of `FindingKind` and of lines.
        rows: The clean set.
        faults: Why the set cannot be used, empty where it can.
    """

    folder: Path
    labels: LabelFile | None
    plan: CheckPlan
    photos: int
    inspected: int
    findings: tuple[Finding, ...]
    rows: tuple[ManifestRow, ...]
    faults: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Findings of each kind that occurs."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind.value: found[kind] for kind in FindingKind if kind in found}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, without the rows of the manifest."""
        splits = Counter(row.split for row in self.rows)
        return {
            "kind": "edgefiqa-data-check/1",
            "folder": str(self.folder),
            "labels": None if self.labels is None else _label_facts(self.labels),
            "plan": asdict(self.plan),
            "photos": self.photos,
            "inspected": self.inspected,
            "kept": len(self.rows),
            "clusters": len({row.cluster for row in self.rows}),
            "splits": {split.value: splits[split] for split in (Split.TRAIN, Split.HELD_BACK)},
            "usable": not self.faults,
            "faults": list(self.faults),
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }


def _label_facts(labels: LabelFile) -> dict[str, Any]:
    scores = [row.score for row in labels.rows]
    return {
        "file": str(labels.path),
        "sha256": sha256_of(labels.path),
        "layout": labels.layout.value,
        "rows": len(labels.rows) + len(labels.faults),
        "score_range": labels.score_range,
        "found_range": [min(scores), max(scores)] if scores else None,
    }


def require_usable(report: CheckReport) -> None:
    """Stop where a set must not be trained on.

    Args:
        report: What a check found.

    Raises:
        DataError: More than 1 % of the photos are unreadable, a label is no number, all labels
            are the same, most are off the scale, or nothing is left.
    """
    if report.faults:
        next_step = "repair or remove what check.json lists and check again"
        found = f"{report.folder} ({'; '.join(report.faults)})"
        raise DataError("this set cannot be used", value=found, next_step=next_step)


def write_report(report: CheckReport, out: Path) -> None:
    """Write ``check.json`` and, of a usable set, ``manifest.jsonl``.

    Args:
        report: What a check found.
        out: Folder to write to; made if needed. An unusable set's older manifest is removed.

    Raises:
        DataError: The folder cannot be written to, or the disk is full; older files stay whole.
    """
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in report.rows)
    text = json.dumps(report.to_dict(), indent=2) + "\n"
    try:
        with full_disk_named(out):
            if report.faults:
                (out / "manifest.jsonl").unlink(missing_ok=True)
            else:
                write_text(out / "manifest.jsonl", lines)
            write_text(out / "check.json", text)
    except OSError as fault:
        what = f"the report cannot be written ({fault.strerror})"
        raise DataError(what, value=out, next_step="name another folder with --out") from fault
