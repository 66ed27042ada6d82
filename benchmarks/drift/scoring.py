"""Scoring images with every file of an export, each in its runtime and in a separate process.

::

    manifest.json ──list_cells──▶ cells (file × runtime) ──score_cells──▶ scores/, failures/

A cell that crashes becomes a failure record; the others finish. What is done is kept: the same
command goes on where it stopped, in the middle of a cell too.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from edgefiqa.errors import ArtifactError, DataError, EdgeFiqaError, ImageError, UsageError
from edgefiqa.files import sha256_of, size_of
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.cells import REWRITTEN, TORCH, Cell, list_cells
from edgefiqa.measuring.image_source import ImageSource, SourceSpec, describe_images, open_source
from edgefiqa.measuring.records import (
    Executed,
    FailureRecord,
    ImageScore,
    ImagesIdentity,
    ScoreRecord,
)
from edgefiqa.measuring.run_directory import (
    IMAGES_NAME,
    cell_name,
    load_record,
    save_record,
)
from edgefiqa.runtimes import RUNTIMES, Scorer, detect_format, load

__all__ = ["Outcome", "ScoreJob", "score_cell", "score_cells", "score_export"]

logger = logging.getLogger(__name__)

Outcome: TypeAlias = ScoreRecord | FailureRecord


@dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """What a cell's process is given."""

    cell: Cell
    spec: SourceSpec
    images: ImagesIdentity
    threads: int
    partial: Path


def score_export(
    export: Path,
    spec: SourceSpec,
    run: Path,
    *,
    reference: Path | None = None,
    runtimes: Sequence[str] = (),
    threads: int = 1,
    on_start: Callable[[str], object] = lambda _: None,
    on_done: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Score images with the reference and with every file of an export directory.

    Args:
        export: A directory with a manifest.
        spec: The images.
        run: The run directory; what it holds of the same files and images is kept.
        reference: Model directory of the float weights; None takes those of the package.
        runtimes: Only these; empty takes all.
        threads: Threads of one inference.
        on_start: Called with each cell's name.
        on_done: Called with each outcome.

    Returns:
        One record a cell, in the cells' order.

    Raises:
        DataError: The run directory is of other images, or there are none.
        EdgeFiqaError: As `list_cells` raises.
    """
    if threads < 1:
        raise UsageError(
            "the number of threads is out of range", value=threads, allowed="1 or more"
        )
    cells = list_cells(export, reference=reference, runtimes=runtimes)
    size = int(Manifest.load(export).contract["size"])
    source = open_source(spec)
    identity = _describe(source, size, run)
    return score_cells(
        cells, spec, identity, run, threads=threads, on_start=on_start, on_done=on_done
    )


def _describe(source: ImageSource, size: int, run: Path) -> ImagesIdentity:
    """Write the images' record, or check that the one that lies here is of the same images."""
    path = run / IMAGES_NAME
    if not path.exists():
        save_record(run, describe_images(source, size))
    record = load_record(path)
    identity: ImagesIdentity | None = getattr(record, "identity", None)
    if identity is None or (identity.sha256, identity.size) != (source.identity, size):
        next_step = "name a new folder, or remove this one"
        raise DataError("this run is of other images", value=run, next_step=next_step)
    return identity


def score_cells(
    cells: Iterable[Cell],
    spec: SourceSpec,
    images: ImagesIdentity,
    run: Path,
    *,
    threads: int,
    on_start: Callable[[str], object] = lambda _: None,
    on_done: Callable[[Outcome], object] = lambda _: None,
) -> list[Outcome]:
    """Score images with each cell, one process after the other.

    Args:
        cells: What to score with.
        spec: The images.
        images: Which they are; each process proves that it opened the same.
        run: The run directory.
        threads: Threads of one inference.
        on_start: Called with each cell's name.
        on_done: Called with each outcome.

    Returns:
        One record a cell.
    """
    outcomes: list[Outcome] = []
    for cell in cells:
        on_start(f"{cell.name} in {cell.runtime}")
        outcome = _kept(cell, images, run, threads)
        if outcome is None:
            # An older result must not stand beside this one, whatever becomes of it.
            for folder in ("scores", "failures", "drift"):
                (run / folder / _json_name(cell)).unlink(missing_ok=True)
            outcome = _score_apart(cell, spec, images, run, threads)
        save_record(run, outcome)
        on_done(outcome)
        outcomes.append(outcome)
    return outcomes


def _json_name(cell: Cell) -> str:
    return f"{cell_name(cell.name, cell.runtime)}.json"


def _kept(cell: Cell, images: ImagesIdentity, run: Path, threads: int) -> Outcome | None:
    """Return an earlier result of the same bytes, runtime and images, if there is one."""
    path = run / "scores" / _json_name(cell)
    record = load_record(path) if path.exists() and not cell.stale else None
    if not isinstance(record, ScoreRecord):
        return None
    ran = record.executed
    found = (ran.sha256, ran.threads, record.images.sha256, record.images.size)
    if found != (cell.sha256, threads, images.sha256, images.size):
        return None
    if not _is_installed(cell.runtime, ran.runtime_version):
        return None
    executed = ran.model_copy(
        update={"twins": cell.twins, "target": cell.target, "precision": cell.precision}
    )
    return record.model_copy(update={"executed": executed, "is_reference": cell.is_reference})


def _is_installed(runtime: str, runtime_version: str) -> bool:
    """Tell whether a runtime still has the version that a record names."""
    package = RUNTIMES.get(runtime).provides[0].replace("_", "-")
    try:
        return version(package).partition("+")[0] in runtime_version
    except PackageNotFoundError:  # installed under another name, such as tensorflow-cpu
        return True


def _score_apart(
    cell: Cell, spec: SourceSpec, images: ImagesIdentity, run: Path, threads: int
) -> Outcome:
    """Score with one cell in a separate process; whatever goes wrong there is a record."""
    if cell.stale:
        return _failure(cell, cell.stale)
    stem = cell_name(cell.name, cell.runtime)
    partial = run / "partial" / f"{stem}.jsonl"
    partial.parent.mkdir(parents=True, exist_ok=True)
    job = ScoreJob(cell=cell, spec=spec, images=images, threads=threads, partial=partial)
    try:
        record = call_isolated(run / "logs" / f"{stem}.log", score_cell, job)
    except EdgeFiqaError as error:
        done = max(0, _count_lines(partial) - 1)
        where = f", after {done} of {images.count} images" if done else ""
        logger.warning("%s in %s: %s", cell.name, cell.runtime, error)
        return _failure(cell, f"{type(error).__name__}: {error}{where}")
    partial.unlink(missing_ok=True)
    return record


def _failure(cell: Cell, error: str) -> FailureRecord:
    return FailureRecord(
        file=cell.name,
        sha256=sha256_of(cell.file) if cell.file.exists() else None,
        target=cell.target,
        precision=cell.precision,
        runtime=cell.runtime,
        error=error,
        twins=cell.twins,
    )


def _count_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def score_cell(job: ScoreJob) -> ScoreRecord:
    """Score all images with one file, in this process.

    Each score goes to the partial file as soon as it is there, so that a killed process loses one.

    Raises:
        ArtifactError: The file is not, or no longer, the one of the manifest.
        DataError: The images are not the ones of the run.
        EdgeFiqaError: As loading the file raises.
    """
    start = time.perf_counter()
    cell, file = job.cell, job.cell.file
    source = open_source(job.spec)
    if source.identity != job.images.sha256:
        raise DataError("the images changed during the run", value=job.spec.path)
    digest = _checked_hash(file, cell)
    scorer = _load(cell, job)
    if scorer.size != job.images.size:
        what = f"the file takes {scorer.size} pixels, the manifest says {job.images.size}"
        raise ArtifactError(what, value=file, next_step="export it again")
    header = {"sha256": digest, "images": job.images.sha256, "runtime": scorer.runtime}
    header |= {"threads": str(job.threads), "size": str(job.images.size)}
    done = _read_partial(job.partial, header)
    with job.partial.open("a", encoding="utf-8") as log:
        for row in range(len(done), len(source)):
            key = source.keys[row]
            try:
                value = float(scorer.score(source.tensor(row, scorer.size))[0])
                entry = ImageScore(key=key, score=value) if math.isfinite(value) else None
                entry = entry or ImageScore(key=key, error=f"the score is {value}")
            except ImageError as error:
                entry = ImageScore(key=key, error=str(error))
            done.append(entry)
            log.write(entry.model_dump_json() + "\n")
            log.flush()
    _checked_hash(file, cell)
    return ScoreRecord(
        executed=Executed(
            file=cell.name,
            sha256=digest,
            size_bytes=size_of(file),
            format=detect_format(cell.path).value,
            target=cell.target,
            precision=cell.precision,
            runtime=cell.runtime,
            runtime_version=scorer.runtime,
            threads=job.threads,
            twins=cell.twins,
        ),
        images=job.images,
        is_reference=cell.is_reference,
        scores=tuple(done),
        seconds=round(time.perf_counter() - start, 3),
    )


def _load(cell: Cell, job: ScoreJob) -> Scorer:
    scorer = load(cell.path, runtime=cell.runtime, threads=job.threads)
    if cell.target == REWRITTEN:
        from edgefiqa.benchmarks.drift.rewritten import RewrittenScorer

        return RewrittenScorer(cell.path, size=job.images.size)
    if cell.runtime == TORCH:
        scorer.size = job.images.size  # the network takes any size; the export fixed this one
    return scorer


def _checked_hash(file: Path, cell: Cell) -> str:
    digest = sha256_of(file)
    if digest != cell.sha256:
        raise ArtifactError("the file changed during the run", value=file, next_step="run it again")
    return digest


def _read_partial(path: Path, header: dict[str, str]) -> list[ImageScore]:
    """Read what an interrupted process left, if it was the same work; else start anew."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done: list[ImageScore] = []
    if lines and lines[0] == json.dumps(header):
        for line in lines[1:]:
            try:
                done.append(ImageScore.model_validate_json(line))
            except ValueError:  # cut short by the end of that process
                break
    text = "".join(f"{entry.model_dump_json()}\n" for entry in done)
    path.write_text(json.dumps(header) + "\n" + text, encoding="utf-8")
    return done
