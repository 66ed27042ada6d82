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
    ArtifactError,
    EdgeFiqaError,
    ImageError,
    MissingExtraError,
    PlatformError,
)
from edgefiqa.files import sha256_of
from edgefiqa.goldens import GOLDENS_DIR, GOLDENS_NAME, Goldens, read_tensor, tensor_sha256
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.preprocess import InputContract, load_tensor
from edgefiqa.runtimes import RUNTIMES, Format, Scorer, load
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


def _execute(scorer: Scorer, directory: Path, goldens: Goldens, tolerance: float) -> Iterator[str]:
    """Levels 2 and 3; yields faults, then an empty string with nothing more to say."""
    for case in goldens.cases:
        tensor = read_tensor(directory / case.tensor)
        photo = load_tensor(directory / case.photo, goldens.size)
        inputs = [("tensor", tensor)]
        if case.tensor_tolerance == 0:
            inputs.append(("photo", photo))
        for level, images in inputs:
            score = float(scorer.score(images)[0])
            if not abs(score - case.score) <= tolerance:  # also true for NaN
                yield f"{case.name}: {level} → {score:.6f}, expected {case.score:.6f}"


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


def _read_metadata(path: Path, scorer: Scorer | None) -> dict[str, Any] | None:
    """Read a file's own metadata; None where that needs a runtime that is not here."""
    if scorer is not None:
        return scorer.metadata()
    if SUFFIXES.get(path.suffix) is Format.COREML:
        from edgefiqa.runtimes.coreml import read_metadata

        return read_metadata(path)
    return None


def _check_metadata(
    path: Path, manifest: Manifest, artifact: Artifact, scorer: Scorer | None
) -> Check:
    try:
        found = _read_metadata(path, scorer)
    except ModuleNotFoundError as error:
        found, reason = None, f"the package {error.name} is not installed"
    except ArtifactError as error:
        return _check(artifact.file, "metadata", str(error))
    else:
        reason = "its runtime is not available"
    if found is None:
        return Check(
            subject=artifact.file, check="metadata", status=Status.NOT_CHECKED, detail=reason
        )
    wrong = [
        key for key, value in _expected_metadata(manifest, artifact).items()
        if found.get(key) != value
    ]
    fault = f"differs from the manifest in {', '.join(wrong)}" if wrong else ""
    return _check(artifact.file, "metadata", fault, str(found.get("producer", "")))


def _check_goldens(
    path: Path, artifact: Artifact, goldens: Goldens, directory: Path
) -> Iterator[tuple[Check, Scorer | None]]:
    """Run the file in every runtime of its format that is installed."""
    for name, row in RUNTIMES:
        if row.format.value != artifact.format:
            continue
        check = f"goldens in {name}"
        try:
            scorer = load(path, runtime=name, threads=1)
        except (MissingExtraError, PlatformError) as error:
            skipped = Check(
                subject=artifact.file, check=check, status=Status.NOT_CHECKED, detail=error.what
            )
            yield skipped, None
            continue
        except EdgeFiqaError as error:
            yield _check(artifact.file, check, str(error)), None
            continue
        tolerance = goldens.tolerances[artifact.precision]
        try:
            faults = list(_execute(scorer, directory, goldens, tolerance))
        except (OSError, EdgeFiqaError) as error:
            faults = [str(error)]
        detail = f"{len(goldens.cases)} cases within {tolerance:g}, {scorer.runtime}"
        yield _check(artifact.file, check, faults[0] if faults else "", detail), scorer


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
    scorer = None
    if goldens is not None:
        for check, loaded in _check_goldens(path, artifact, goldens, directory / GOLDENS_DIR):
            scorer = scorer or loaded
            yield check
    yield _check_metadata(path, manifest, artifact, scorer)


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
        yield _check(f"{GOLDENS_DIR}/{GOLDENS_NAME}", "sha256", fault, f"{manifest.goldens_sha256[:16]}…")
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
