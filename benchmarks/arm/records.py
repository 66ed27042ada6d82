"""The record of a run on emulated processors: every score, and what follows from them."""

from typing import Literal

import numpy as np
from pydantic import FiniteFloat

from edgefiqa.benchmarks.arm.processor import Processor
from edgefiqa.goldens import allowed_error
from edgefiqa.measuring.records import Record, Sha256

__all__ = ["ArmRecord", "EmulatedRun", "FileRecord", "HostRun", "largest_difference"]


class HostRun(Record):
    """One file on this machine.

    Attributes:
        sha256: SHA-256 of the file that was executed.
        runtime: The library with its version.
        scores: Scores of the golden cases, in their order.
    """

    sha256: Sha256
    runtime: str
    scores: tuple[FiniteFloat, ...]


class EmulatedRun(Record):
    """One file on one processor model.

    Attributes:
        processor: The model.
        sha256: SHA-256 of the file that was executed; None where none was.
        runtime: The library with its version, or an empty text.
        scores: Scores of the golden cases, in their order; a file may say "not a number" there.
        error: Why there are no scores, or an empty text.
    """

    processor: Processor
    sha256: Sha256 | None = None
    runtime: str = ""
    scores: tuple[float, ...] = ()
    error: str = ""


class FileRecord(Record):
    """One file of the export.

    Attributes:
        file: Name in its export directory.
        format: A value of ``edgefiqa.runtimes.Format``.
        precision: "fp32", "fp16", or a quantisation recipe's name.
        tolerance: Tolerance of the golden scores at this precision, see ``edgefiqa.goldens``.
        golden: The golden scores, in their order.
        host: On this machine; None where it was not executed.
        emulated: On each processor model.
        left_out: Why it was not executed, or an empty text.
    """

    file: str
    format: str
    precision: str
    tolerance: FiniteFloat
    golden: tuple[FiniteFloat, ...]
    host: HostRun | None = None
    emulated: tuple[EmulatedRun, ...] = ()
    left_out: str = ""

    def is_within(self, run: EmulatedRun) -> bool:
        """Whether a run executed the same file and kept the tolerance of each golden score."""
        if self.host is None or run.sha256 != self.host.sha256:
            return False
        if run.error or len(run.scores) != len(self.golden):
            return False
        golden = np.asarray(self.golden)
        difference = np.abs(np.asarray(run.scores) - golden)
        return bool(np.all(difference <= allowed_error(self.tolerance, golden)))  # NaN: false


class ArmRecord(Record):
    """A run.

    Attributes:
        recorded_at: ISO 8601, UTC.
        host: This machine's processor.
        qemu: QEMU's version.
        options: What QEMU was told of each processor model.
        features: What each processor model says it can do.
        parent_sha256: SHA-256 of the weights that the files were exported from; None in records of
            earlier versions.
        goldens_sha256: SHA-256 of ``goldens.json``.
        cases: Names of the golden cases.
        files: The files.
    """

    measurement: Literal["arm_numerics"] = "arm_numerics"
    schema_version: Literal[1] = 1
    recorded_at: str
    host: str
    qemu: str
    options: dict[Processor, str]
    features: dict[Processor, tuple[str, ...]]
    parent_sha256: Sha256 | None = None
    goldens_sha256: Sha256
    cases: tuple[str, ...]
    files: tuple[FileRecord, ...]

    @property
    def is_within(self) -> bool:
        """Whether every executed file kept its tolerance on every processor model."""
        return all(file.is_within(run) for file in self.files for run in file.emulated)


def largest_difference(scores: tuple[float, ...], others: tuple[float, ...]) -> float:
    """Return the largest absolute difference of pairs; NaN if one is NaN or they do not pair."""
    if len(scores) != len(others):
        return float("nan")
    return float(np.max(np.abs(np.asarray(scores) - np.asarray(others))))
