"""What the host asks of an agent: one cell, as the job file has it."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgefiqa.preprocess import MAX_SIZE, MIN_SIZE

__all__ = [
    "SCHEMA_VERSION",
    "AgentJob",
    "JobGoldens",
    "JobModel",
    "ProtocolRecord",
    "RelativePath",
    "RunRules",
    "Runtime",
    "Sha256",
]

SCHEMA_VERSION: Literal[1] = 1
_HOUR_NS = 3_600_000_000_000

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
RelativePath = Annotated[
    str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9._ -]*(/[A-Za-z0-9_][A-Za-z0-9._ -]*)*$")
]


class ProtocolRecord(BaseModel):
    """Base of all parts of both files: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(StrEnum):
    """A runtime that an agent executes models with."""

    LITERT = "litert"
    EXECUTORCH = "executorch"
    ONNXRUNTIME = "onnxruntime"


class JobModel(ProtocolRecord):
    """The model of a job.

    Attributes:
        file: Its name, relative to the job file's folder.
        sha256: What its hash must be.
    """

    file: RelativePath
    sha256: Sha256


class RunRules(ProtocolRecord):
    """How often an inference is measured: minimum count *and* minimum duration.

    Attributes:
        warm_up_count: Inferences before the measured ones.
        minimum_count: At least this many samples.
        minimum_duration_ns: At least this long, in nanoseconds.
        maximum_duration_ns: The device stops here even if the minima are not reached.
    """

    warm_up_count: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    minimum_count: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    minimum_duration_ns: Annotated[int, Field(ge=0, le=_HOUR_NS)] = 5_000_000_000
    maximum_duration_ns: Annotated[int, Field(ge=1, le=_HOUR_NS)] = 600_000_000_000


class JobGoldens(ProtocolRecord):
    """Golden vectors that the device checks.

    Attributes:
        directory: Folder beside the job file, as ``edgefiqa convert`` wrote it.
        sha256: SHA-256 of its ``goldens.json``.
    """

    directory: RelativePath
    sha256: Sha256


class AgentJob(ProtocolRecord):
    """One cell of a benchmark.

    Attributes:
        schema_version: Schema version of this protocol.
        job_id: Name of the cell, and of the report file.
        model: The model.
        runtime: What must execute it; an agent of another runtime answers with an error.
        precision: Key of the golden tolerances.
        threads: Processor threads.
        size: Input side in pixels that the model must have.
        rules: How often the inference is measured.
        goldens: Golden vectors, or null.
        end_to_end_count: How often each golden photograph is decoded, preprocessed and scored.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    job_id: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    model: JobModel
    runtime: Runtime
    precision: str
    threads: Annotated[int, Field(ge=1, le=64)]
    size: Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
    rules: RunRules = RunRules()
    goldens: JobGoldens | None = None
    end_to_end_count: Annotated[int, Field(ge=0, le=1_000_000)] = 0
