"""What all records share: which bytes, in which runtime, on which machine."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from edgefiqa.manifest import PrecisionKind, precision_kind

__all__ = [
    "Executed",
    "FileInRuntime",
    "FileName",
    "HostState",
    "Record",
    "SchemaVersion",
    "Sha256",
    "Twin",
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SchemaVersion: TypeAlias = Literal[1]
FileName = Annotated[str, StringConstraints(min_length=1)]


class Record(BaseModel):
    """Base of all records: frozen, unknown keys rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Twin(Record):
    """Another file with the very same bytes, so measured by the same run.

    Attributes:
        file: Its name.
        target: The ``--to`` name that made it.
        precision: The precision its manifest gives it.
    """

    file: FileName
    target: str
    precision: str


class FileInRuntime(Record):
    """One file in what runs it: a row of every table.

    Attributes:
        file: Name in its export directory; of the weights for the reference.
        target: The ``--to`` name that made it.
        precision: "fp32", "fp16", or a quantisation recipe's name.
        runtime: A name of ``edgefiqa.runtimes.RUNTIMES``, or of an external tool.
        twins: Files of the same hash; measured once, this record is theirs too.
    """

    file: FileName
    target: str
    precision: str
    runtime: str
    twins: tuple[Twin, ...] = ()

    @property
    def cell(self) -> str:
        """The name of its row: the file and what ran it."""
        return f"{self.file} in {self.runtime}"

    @property
    def names(self) -> list[tuple[str, str]]:
        """File and precision of each file that this run stands for."""
        return [(self.file, self.precision), *((twin.file, twin.precision) for twin in self.twins)]

    @property
    def precision_kind(self) -> PrecisionKind:
        """What the file computes in: float32, float16, or quantised."""
        return precision_kind(self.precision)


class Executed(FileInRuntime):
    """What ran.

    Attributes:
        sha256: SHA-256 of the bytes that were executed, hashed by the process that executed them.
        size_bytes: Size of the file or package.
        format: A value of ``edgefiqa.runtimes.Format``.
        runtime_version: The library with its version.
        threads: Threads of one inference.
    """

    sha256: Sha256
    size_bytes: int = Field(ge=0)
    format: str
    runtime_version: str
    threads: int = Field(ge=1)


class HostState(Record):
    """The state of the machine when something was measured; None where it cannot be read.

    Attributes:
        recorded_at: ISO 8601, UTC.
        processor: Its name, as the system gives it.
        architecture: "x86_64", "aarch64", …
        cores: Processors that this process may use.
        features: Instruction sets that matter to inference.
        system: Operating system with its version.
        python: Version; None where no Python took part.
        packages: Versions of the packages that took part.
        governor: Frequency governor of the first processor.
        load_1min: Load average.
        temperature_c: Temperature in °C of the hottest readable zone.
    """

    recorded_at: str
    processor: str
    architecture: str
    cores: int = Field(ge=1)
    features: tuple[str, ...] = ()
    system: str
    python: str | None = None
    packages: dict[str, str] = {}
    governor: str | None = None
    load_1min: FiniteFloat | None = None
    temperature_c: FiniteFloat | None = None
