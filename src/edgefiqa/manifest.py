"""What an export directory says about itself: ``manifest.json``."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgefiqa import __version__
from edgefiqa.errors import ArtifactError
from edgefiqa.files import sha256_of, write_text

__all__ = [
    "MANIFEST_NAME",
    "Artifact",
    "FileMetadata",
    "Manifest",
    "NotExecuted",
    "Parity",
    "PrecisionKind",
    "parent_of",
    "precision_kind",
]

MANIFEST_NAME = "manifest.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PrecisionKind(StrEnum):
    """What a file computes in, whatever its recipe is called."""

    FLOAT32 = "fp32"
    FLOAT16 = "fp16"
    QUANTISED = "quantised"


def precision_kind(precision: str) -> PrecisionKind:
    """Return the kind of a precision as manifests and records write it.

    Args:
        precision: "fp32", "fp16", or the name of the quantisation recipe that made the file.
    """
    if precision in (PrecisionKind.FLOAT32, PrecisionKind.FLOAT16):
        return PrecisionKind(precision)
    return PrecisionKind.QUANTISED


class FileMetadata(_Record):
    """What is written into each exported file itself, as one JSON object under ``edgefiqa``.

    Attributes:
        name: Name of the weights.
        model: Architecture.
        version: Version of the weights.
        licence: Licence of the weights.
        score_range: Range of the training labels; scores are not clipped to it.
        parent_sha256: SHA-256 of the safetensors file it was exported from.
        precision: "fp32", "fp16", or a quantisation recipe's name.
        contract: The input contract, see ``edgefiqa.preprocess.InputContract``.
        producer: The package and version that wrote it.
    """

    name: str
    model: str
    version: str
    licence: str
    score_range: tuple[float, float]
    parent_sha256: str
    precision: str
    contract: dict[str, Any]
    producer: str = f"edgefiqa {__version__}"


class Parity(_Record):
    """One file, executed by one runtime, compared with torch on the same tensors.

    Attributes:
        sha256: SHA-256 of the file that was executed.
        runtime: What executed it, with its version.
        reference: What it was compared with.
        photos: Where the images come from.
        images: How many.
        max_abs_error: Largest |score − reference|.
        mean_abs_error: Mean of the same.
        worst_image: The image with the largest error.
        tolerance: What was allowed.
    """

    sha256: str
    runtime: str
    reference: str
    photos: str
    images: int
    max_abs_error: float
    mean_abs_error: float
    worst_image: str
    tolerance: float


class NotExecuted(_Record):
    """A runtime that could not be asked, and why: never left out silently."""

    runtime: str
    reason: str


class Artifact(_Record):
    """One exported file.

    Attributes:
        file: Path relative to the manifest.
        format: A value of ``edgefiqa.runtimes.Format``.
        target: The ``--to`` name that made it.
        precision: See ``FileMetadata``.
        sha256: SHA-256 of the file (or of the package's files and names).
        size_bytes: Its size.
        folded: Exact rewrites applied before export.
        structure: Operators and partitions, as the exporter counts them.
        tools: The packages that made it, with versions.
        parity: Comparisons with torch that passed.
        not_executed: Runtimes that could not run it here.
        seconds: Time the export took, parity included.
    """

    file: str
    format: str
    target: str
    precision: str
    sha256: str
    size_bytes: int
    folded: list[str]
    structure: dict[str, Any]
    tools: dict[str, str]
    parity: list[Parity]
    not_executed: list[NotExecuted]
    seconds: float


class Manifest(_Record):
    """All that was exported from one set of weights at one input size.

    Attributes:
        card: The parent's model card.
        contract: The input contract.
        goldens_sha256: SHA-256 of ``goldens/goldens.json``.
        artifacts: The files.
        created: When it was last written, ISO 8601, UTC.
    """

    schema_version: int = 1
    created: str = ""
    producer: str = f"edgefiqa {__version__}"
    card: dict[str, Any]
    contract: dict[str, Any]
    goldens_sha256: str
    artifacts: list[Artifact] = []

    def save(self, out: Path) -> None:
        """Write ``manifest.json`` into a directory, whole or not at all."""
        stamped = self.model_copy(update={"created": datetime.now(UTC).isoformat("T", "seconds")})
        write_text(out / MANIFEST_NAME, stamped.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Read a directory's manifest.

        Raises:
            ArtifactError: If it is missing or not of this layout.
        """
        path = directory / MANIFEST_NAME
        if not path.is_file():
            raise ArtifactError(
                "no manifest here",
                value=path,
                allowed="a directory written by edgefiqa convert",
                next_step="edgefiqa convert default --to onnx --out DIR makes one",
            )
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "file"
            raise ArtifactError(
                f"the manifest is not valid ({where}: {fault['msg']})", value=path
            ) from error


def parent_of(path: Path) -> str | None:
    """Return the sha256 of the weights that a file was exported from.

    Args:
        path: An exported file.

    Returns:
        What the manifest beside it says; None if there is none, or none that lists the file.

    Raises:
        ArtifactError: If the manifest lists the file with another hash.
    """
    if not (path.parent / MANIFEST_NAME).is_file():
        return None
    manifest = Manifest.load(path.parent)
    listed = next((row for row in manifest.artifacts if row.file == path.name), None)
    if listed is None:
        return None
    if sha256_of(path) != listed.sha256:
        raise ArtifactError(
            "the file has changed since its manifest was written",
            value=path,
            next_step="export it again with edgefiqa convert",
        )
    return str(manifest.card["sha256"])
