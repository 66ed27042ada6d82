"""Check a folder of photos and its label file, and sort out what is fit for use.

::

    photos + labels ──check_labelled──▶ CheckReport (see edgefiqa.data.check_report)

Every photo is read and decoded in full, on all cores. A finding names the line of the label file.
Splits are drawn by near-duplicate cluster, so that no photo is trained on and held back as a copy.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgefiqa.data.check_report import CheckPlan, CheckReport, Finding, FindingKind, ManifestRow
from edgefiqa.data.image_set import Split
from edgefiqa.data.label_files import LabelFile, LabelRow, find_label_file, read_labels
from edgefiqa.data.near_duplicates import (
    cluster_hashes,
    difference_hash,
    group_identical,
    split_clusters,
)
from edgefiqa.errors import DataError, ImageError, UsageError
from edgefiqa.photo_files import find_photos
from edgefiqa.preprocess import open_photo, to_rgb
from edgefiqa.workers import end_with_parent, processor_count

__all__ = ["MAX_UNREADABLE_SHARE", "check_labelled", "check_unlabelled"]

MAX_UNREADABLE_SHARE = 0.01
"""More unreadable photos than this mean a broken copy, not a few bad files."""

_Placed: TypeAlias = tuple[str, LabelRow | None]  # a photo's name, its label


@dataclass(frozen=True, kw_only=True)
class _Photo:
    """What decoding a photo told: hashes, or why it cannot be read."""

    sha256: str = ""
    bits: bytes = b""
    error: str = ""


@dataclass(kw_only=True)
class _Ledger:
    """Findings as they come up."""

    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: FindingKind, image: str, line: int | None, detail: str) -> None:
        self.findings.append(Finding(kind=kind, image=image, line=line, detail=detail))

    def count(self, kind: FindingKind) -> int:
        return sum(finding.kind is kind for finding in self.findings)

    def ordered(self) -> tuple[Finding, ...]:
        order = {kind: place for place, kind in enumerate(FindingKind)}
        return tuple(sorted(self.findings, key=lambda f: (order[f.kind], f.line or 0, f.image)))


def check_labelled(
    folder: Path,
    labels: Path | None = None,
    layout: str | None = None,
    *,
    score_range: tuple[float, float] | None = None,
    plan: CheckPlan | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Check photos against their label file.

    A name in the label file is looked up in the folder, then beside the label file, then by its
    last part if only one photo in the folder has it. The clean set leaves out what cannot be
    used: rows without a number or outside the range, photos that are missing or unreadable,
    second copies, and all copies whose labels contradict each other.

    Args:
        folder: The photos, in folders as deep as they like.
        labels: The label file; the only one that lies in the folder unless given.
        layout: Its layout; recognised unless given.
        score_range: Lowest and highest score, instead of the layout's.
        plan: How copies and splits are decided.
        workers: Processes; one per core unless given, 1 for this one.

    Returns:
        The report, also where the set is unusable: see `require_usable`.

    Raises:
        RecipeError: The label file cannot be read as that layout.
        DataError: The folder does not exist or a worker process died.
        UsageError: The folder holds no photo, or the range is empty.
    """
    ledger, photos = _Ledger(), _names(folder)
    labels = labels or find_label_file(folder)
    file = read_labels(labels, layout)
    if score_range is not None:
        if not score_range[0] < score_range[1]:
            raise UsageError("the range is empty", value=score_range, allowed="low below high")
        file = replace(file, score_range=score_range)
    for fault in file.faults:
        ledger.note(FindingKind.NOT_A_NUMBER, fault.image, fault.line, fault.found)
    placed = _place(file.rows, folder, labels.parent, photos, ledger)
    _note_unlabelled(photos, placed, file, ledger)
    return _conclude(folder, photos, placed, file, plan or CheckPlan(), ledger, workers)


def check_unlabelled(
    folder: Path, *, plan: CheckPlan | None = None, workers: int | None = None
) -> CheckReport:
    """Check photos that have no labels.

    Args:
        folder: The photos.
        plan: How copies and splits are decided.
        workers: Processes; one per core unless given, 1 for this one.

    Returns:
        The report, also where the set is unusable.

    Raises:
        DataError: The folder does not exist or a worker process died.
        UsageError: The folder holds no photo.
    """
    photos = _names(folder)
    placed = [(name, None) for name in photos]
    return _conclude(folder, photos, placed, None, plan or CheckPlan(), _Ledger(), workers)


def _conclude(
    folder: Path,
    photos: Sequence[str],
    placed: Sequence[_Placed],
    file: LabelFile | None,
    plan: CheckPlan,
    ledger: _Ledger,
    workers: int | None,
) -> CheckReport:
    """Decode the photos, keep what can be used and say what cannot."""
    names = list(dict.fromkeys(name for name, _ in placed))
    facts = dict(zip(names, _inspect_all([folder / name for name in names], workers), strict=True))
    score_range = file.score_range if file else None
    usable = _within_range(_readable(placed, facts, ledger), score_range, ledger)
    kept = _agreeing(usable, facts, ledger)
    scores = {row.score for _, row in kept if row}
    if len(scores) == 1:
        detail = f"all {len(kept)} labels are {next(iter(scores)):g}"
        ledger.note(FindingKind.CONSTANT, "", None, detail)
    rows = _manifest(kept, facts, score_range, plan, ledger)
    return CheckReport(
        folder=folder,
        labels=file,
        plan=plan,
        photos=len(photos),
        inspected=len(names),
        findings=ledger.ordered(),
        rows=rows,
        faults=tuple(_faults(ledger, len(names), len(rows), file)),
    )


def _names(folder: Path) -> list[str]:
    """List the photos of a folder, relative to it."""
    if not folder.is_dir():
        raise DataError("there is no such folder", value=folder, next_step="check the path")
    return [path.relative_to(folder).as_posix() for path in find_photos([folder])]


def _place(
    rows: Iterable[LabelRow], folder: Path, beside: Path, photos: Sequence[str], ledger: _Ledger
) -> list[tuple[str, LabelRow]]:
    """Find each row's photo."""
    known, last_parts = set(photos), Counter(name.rpartition("/")[2] for name in photos)
    by_last_part = {name.rpartition("/")[2]: name for name in photos}
    inside = beside.resolve().is_relative_to(folder.resolve())
    prefix = beside.resolve().relative_to(folder.resolve()).as_posix() if inside else ""
    placed = []
    for row in rows:
        last = row.image.rpartition("/")[2]
        for name in (row.image, f"{prefix}/{row.image}"):
            if name in known:
                placed.append((name, row))
                break
        else:
            if last_parts[last] == 1:
                placed.append((by_last_part[last], row))
            else:
                several = f"{last_parts[last]} photos have this name in other folders"
                detail = several if last_parts[last] else f"no such photo in {folder}"
                ledger.note(FindingKind.MISSING, row.image, row.line, detail)
    return placed


def _note_unlabelled(
    photos: Sequence[str],
    placed: Sequence[tuple[str, LabelRow]],
    file: LabelFile,
    ledger: _Ledger,
) -> None:
    named = {name for name, _ in placed} | {fault.image for fault in file.faults}
    for name in photos:
        if name not in named and name.rpartition("/")[2] not in named:
            ledger.note(FindingKind.NO_LABEL, name, None, "not in the label file")


def _inspect_all(paths: Sequence[Path], workers: int | None) -> list[_Photo]:
    """Decode photos, in order."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    workers = min(workers or processor_count(), len(paths))
    return list(
        track(
            _inspections(paths, workers),
            "reading photos",
            total=len(paths),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    )


def _inspections(paths: Sequence[Path], workers: int) -> Iterator[_Photo]:
    if workers <= 1:
        yield from map(_inspect, paths)
        return
    try:
        # Forked workers would inherit the parent's threads in an unusable state.
        spawn = get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool:
            yield from pool.map(_inspect, paths, chunksize=8)
    except BrokenProcessPool as fault:
        next_step = "run again with --workers 1; a very large photo may need more memory"
        raise DataError(
            "a worker process died while reading photos", next_step=next_step
        ) from fault


def _inspect(path: Path) -> _Photo:
    """Read and decode one photo in full. Runs in a worker process."""
    try:
        content = path.read_bytes()
        image = to_rgb(open_photo(content, name=str(path)))
    except ImageError as fault:
        return _Photo(error=fault.what)
    except OSError as fault:
        return _Photo(error=f"the photo cannot be opened ({fault.strerror})")
    bits = np.packbits(difference_hash(image)).tobytes()
    return _Photo(sha256=hashlib.sha256(content).hexdigest(), bits=bits)


def _readable(
    placed: Sequence[_Placed], facts: Mapping[str, _Photo], ledger: _Ledger
) -> list[_Placed]:
    noted: set[str] = set()
    for name, row in placed:
        if facts[name].error and name not in noted:
            noted.add(name)
            ledger.note(FindingKind.UNREADABLE, name, _line(row), facts[name].error)
    return [(name, row) for name, row in placed if name not in noted]


def _within_range(
    placed: Sequence[_Placed], score_range: tuple[float, float] | None, ledger: _Ledger
) -> list[_Placed]:
    if score_range is None:
        return list(placed)
    low, high = score_range
    inside: list[_Placed] = []
    for name, row in placed:
        if row and not low <= row.score <= high:
            detail = f"{row.score:g} is outside {low:g} to {high:g}"
            ledger.note(FindingKind.OUT_OF_RANGE, name, row.line, detail)
        else:
            inside.append((name, row))
    return inside


def _line(row: LabelRow | None) -> int | None:
    return row.line if row else None


def _agreeing(
    placed: Sequence[_Placed], facts: Mapping[str, _Photo], ledger: _Ledger
) -> list[_Placed]:
    """Keep one of each photo, and none where the copies' labels contradict each other."""
    dropped: set[int] = set()
    for group in group_identical([facts[name].sha256 for name, _ in placed]):
        first_name, first = placed[group[0]]
        scores = {row.score for _, row in (placed[i] for i in group) if row}
        for index in group[1:]:
            name, row = placed[index]
            kind = FindingKind.REPEATED if name == first_name else FindingKind.DUPLICATE
            where = f" (line {first.line})" if first else ""
            ledger.note(kind, name, _line(row), f"the same as {first_name}{where}")
            if row and first and row.score != first.score:
                detail = f"{row.score:g}, but {first.score:g} for {first_name}{where}"
                ledger.note(FindingKind.CONFLICT, name, row.line, detail)
        dropped |= set(group if len(scores) > 1 else group[1:])
    return [pair for index, pair in enumerate(placed) if index not in dropped]


def _manifest(
    kept: Sequence[_Placed],
    facts: Mapping[str, _Photo],
    score_range: tuple[float, float] | None,
    plan: CheckPlan,
    ledger: _Ledger,
) -> tuple[ManifestRow, ...]:
    """Cluster and split what is kept."""
    if not kept:
        return ()
    packed = np.frombuffer(b"".join(facts[name].bits for name, _ in kept), np.uint8)
    hashes = np.unpackbits(packed.reshape(len(kept), -1), axis=1)
    clusters = cluster_hashes(hashes, duplicate_bits=plan.duplicate_bits)
    held_back = split_clusters(clusters, plan.held_back_share, plan.seed)
    rows = []
    for index, ((name, row), cluster) in enumerate(zip(kept, clusters, strict=True)):
        if cluster != index:
            near, other = kept[int(cluster)]
            where = f" (line {other.line})" if other else ""
            detail = f"looks like {near}{where}: kept, in the same split"
            ledger.note(FindingKind.NEAR_DUPLICATE, name, _line(row), detail)
        rows.append(
            ManifestRow(
                image=name,
                score=row.score if row else None,
                range=score_range,
                sha256=facts[name].sha256,
                cluster=int(cluster),
                split=Split.HELD_BACK if held_back[index] else Split.TRAIN,
                line=_line(row),
            )
        )
    return tuple(rows)


def _faults(ledger: _Ledger, inspected: int, kept: int, file: LabelFile | None) -> Iterator[str]:
    """Say why the set cannot be used."""
    unreadable = [f.image for f in ledger.findings if f.kind is FindingKind.UNREADABLE]
    if len(unreadable) > MAX_UNREADABLE_SHARE * inspected:
        share = f"{len(unreadable)} of {inspected} photos ({len(unreadable) / inspected:.1%})"
        yield f"{share} cannot be read, more than 1 %: {', '.join(unreadable[:5])}"
    bad = [f.line for f in ledger.findings if f.kind is FindingKind.NOT_A_NUMBER]
    if bad:
        lines = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        yield f"{len(bad)} labels are no finite numbers: line {lines}"
    for finding in ledger.findings:
        if finding.kind is FindingKind.CONSTANT:
            yield f"the labels are constant, nothing can be learned: {finding.detail}"
    outside = ledger.count(FindingKind.OUT_OF_RANGE)
    if file is not None and file.score_range and outside > len(file.rows) / 2:
        low, high = file.score_range
        found = f"{outside} of {len(file.rows)} labels are outside {low:g} to {high:g}"
        yield f"{found}: the scale is another one, name it with --range"
    if not kept:
        yield "no photo is left that can be used"
