"""Checking an export directory again, wherever it has travelled to.

Needs neither torch nor tensorflow: only the runtimes of the files that are to be executed. What
cannot be checked here is reported as such, never passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from edgefiqa.errors import (
    EdgeFiqaError,
    ImageError,
    MissingExtraError,
    PlatformError,
)
from edgefiqa.files import sha256_of
from edgefiqa.goldens import (
    GOLDENS_DIR,
    GOLDENS_NAME,
    Goldens,
    allowed_error,
    read_tensor,
    tensor_sha256,
)
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.preprocess import InputContract, load_tensor
from edgefiqa.runtimes import RUNTIMES, Scorer, load, load_stand_in, read_metadata
from edgefiqa.runtimes.formats import SUFFIXES

__all__ = ["Check", "Status", "verify"]


class Status(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the result.

    Attributes:
        subject: The file.
        check: What was asked.
        status: The outcome.
        detail: The figures, or the reason.
    """

    subject: str
    check: str
    status: Status
    detail: str = ""


def _check(subject: str, check: str, fault: str, detail: str = "") -> Check:
    """Build a check that failed if there is a fault."""
    status = Status.FAILED if fault else Status.OK
    return Check(subject=subject, check=check, status=status, detail=fault or detail)


def _not_checked(subject: str, check: str, error: EdgeFiqaError) -> Check:
    return Check(subject=subject, check=check, status=Status.NOT_CHECKED, detail=str(error))


def _differs(found: str, expected: str) -> str:
    return "" if found == expected else f"sha256 is {found[:16]}…, recorded {expected[:16]}…"


def _check_photos(directory: Path, goldens: Goldens) -> Iterator[Check]:
    """Level 1: photo → tensor."""
    for case in goldens.cases:
        try:
            photo, tensor = directory / case.photo, directory / case.tensor
            fault = _differs(sha256_of(photo), case.photo_sha256)
            expected = read_tensor(tensor)
            fault = fault or _differs(tensor_sha256(expected), case.tensor_sha256)
            made = load_tensor(photo, goldens.size)
            worst = int(np.abs(made.astype(np.int16) - expected).max())
            if not fault and worst > case.tensor_tolerance:
                fault = f"pixels differ by up to {worst}, allowed {case.tensor_tolerance}"
        except (OSError, ImageError, ValueError) as error:
            fault, worst = str(error), -1
        yield _check(f"{GOLDENS_DIR}/{case.photo}", "photo → tensor", fault, f"≤ {worst}/255")


@dataclass(frozen=True, kw_only=True)
class _GoldenRun:
    """What one runtime said: its version, the first fault or an empty text, the metadata."""

    runtime: str
    fault: str
    metadata: dict[str, Any]


def _run_goldens(path: Path, runtime: str, directory: Path, tolerance: float) -> _GoldenRun:
    """Levels 2 and 3, tensor → score and photo → score, in this process."""
    scorer = load(path, runtime=runtime, threads=1)
    fault = _first_fault(scorer, Goldens.load(directory), directory, tolerance)
    return _GoldenRun(runtime=scorer.runtime, fault=fault, metadata=read_metadata(path))


def _run_stand_in(path: Path, directory: Path, tolerance: float) -> _GoldenRun | None:
    """The same in what stands in for a runtime that does not exist here; None if nothing does."""
    scorer = load_stand_in(path, threads=1)
    if scorer is None:
        return None
    fault = _first_fault(scorer, Goldens.load(directory), directory, tolerance)
    return _GoldenRun(runtime=scorer.runtime, fault=fault, metadata={})


def _first_fault(scorer: Scorer, goldens: Goldens, directory: Path, tolerance: float) -> str:
    for case in goldens.cases:
        inputs = {"tensor": read_tensor(directory / case.tensor)}
        if case.tensor_tolerance == 0:
            inputs["photo"] = load_tensor(directory / case.photo, goldens.size)
        for level, images in inputs.items():
            score = float(scorer.score(images)[0])
            if not abs(score - case.score) <= allowed_error(tolerance, case.score):  # NaN: true
                return f"{case.name}: {level} → {score:.6f}, expected {case.score:.6f}"
    return ""


def _expected_metadata(manifest: Manifest, artifact: Artifact) -> dict[str, Any]:
    card = manifest.card
    return {
        "name": card["name"],
        "model": card["model"],
        "version": card["version"],
        "licence": card["licence"],
        "score_range": list(card["score_range"]),
        "parent_sha256": card["sha256"],
        "precision": artifact.precision,
        "contract": manifest.contract,
    }


def _check_metadata(
    path: Path, manifest: Manifest, artifact: Artifact, found: dict[str, Any]
) -> Check:
    """Compare the file's metadata with the manifest; read it if no runtime has done so."""
    try:
        found = found or call_isolated(None, read_metadata, path)
    except MissingExtraError as error:
        return _not_checked(artifact.file, "metadata", error)
    except EdgeFiqaError as error:
        return _check(artifact.file, "metadata", str(error))
    wrong = [
        key
        for key, value in _expected_metadata(manifest, artifact).items()
        if found.get(key) != value
    ]
    fault = f"differs from the manifest in {', '.join(wrong)}" if wrong else ""
    return _check(artifact.file, "metadata", fault, str(found.get("producer", "")))


def _check_execution(
    path: Path, manifest: Manifest, artifact: Artifact, goldens: Goldens
) -> Iterator[Check]:
    """Run the file in every runtime of its format that is installed, each in a separate process."""
    tolerance = goldens.tolerances.get(artifact.precision, 0.0)  # unknown: nothing is allowed
    directory = path.parent / GOLDENS_DIR
    metadata: dict[str, Any] = {}
    for name, row in RUNTIMES:
        if row.format.value != artifact.format:
            continue
        check = f"goldens in {name}"
        run: _GoldenRun | None = None
        try:
            try:
                run = call_isolated(None, _run_goldens, path, name, directory, tolerance)
            except PlatformError as error:
                yield _not_checked(artifact.file, check, error)
                check = "goldens in mil-reference"
                run = call_isolated(None, _run_stand_in, path, directory, tolerance)
        except MissingExtraError as error:
            yield _not_checked(artifact.file, check, error)
        except EdgeFiqaError as error:
            yield _check(artifact.file, check, str(error))
        if run is not None:
            detail = f"{len(goldens.cases)} cases within {tolerance:g}, {run.runtime}"
            yield _check(artifact.file, check, run.fault, detail)
            metadata = metadata or run.metadata
    yield _check_metadata(path, manifest, artifact, metadata)


def _check_artifact(
    directory: Path, manifest: Manifest, artifact: Artifact, goldens: Goldens | None
) -> Iterator[Check]:
    path = directory / artifact.file
    if not path.exists():
        yield _check(artifact.file, "sha256", "the file is missing")
        return
    fault = _differs(sha256_of(path), artifact.sha256)
    yield _check(artifact.file, "sha256", fault, artifact.sha256[:16] + "…")
    if fault:  # a changed file is not executed
        return
    if goldens is not None:
        yield from _check_execution(path, manifest, artifact, goldens)


def verify(directory: Path) -> Iterator[Check]:
    """Check an export directory: hashes, metadata, golden vectors.

    Args:
        directory: What ``edgefiqa convert`` wrote.

    Yields:
        One record a check, in the order they are made.

    Raises:
        ArtifactError: If there is no valid manifest to check against.
    """
    manifest = Manifest.load(directory)
    InputContract.from_dict(manifest.contract)
    goldens = None
    goldens_file = directory / GOLDENS_DIR / GOLDENS_NAME
    if goldens_file.is_file():
        fault = _differs(sha256_of(goldens_file), manifest.goldens_sha256)
        yield _check(
            f"{GOLDENS_DIR}/{GOLDENS_NAME}", "sha256", fault, f"{manifest.goldens_sha256[:16]}…"
        )
        if not fault:
            goldens = Goldens.load(directory / GOLDENS_DIR)
            yield from _check_photos(directory / GOLDENS_DIR, goldens)
    else:
        yield _check(f"{GOLDENS_DIR}/{GOLDENS_NAME}", "sha256", "the golden vectors are missing")
    if not manifest.artifacts:
        yield _check("manifest.json", "artifacts", "it lists no exported file")
    for artifact in manifest.artifacts:
        yield from _check_artifact(directory, manifest, artifact, goldens)
    known = {artifact.file for artifact in manifest.artifacts}
    for path in sorted(directory.iterdir()):
        if path.suffix in SUFFIXES and path.name not in known:
            yield _check(path.name, "manifest", "the manifest does not know this file")
