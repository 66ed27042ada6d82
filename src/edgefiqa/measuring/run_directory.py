"""One run's folder of records: written whole, read strictly."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from edgefiqa.errors import DataError
from edgefiqa.files import write_text
from edgefiqa.measuring.records import (
    AnyRecord,
    DriftRecord,
    FailureRecord,
    ImagesRecord,
    LatencyRecord,
    LayersRecord,
    ScoreRecord,
    WaterfallRecord,
)

__all__ = [
    "IMAGES_NAME",
    "Run",
    "cell_name",
    "load_record",
    "load_run",
    "record_path",
    "save_record",
]

IMAGES_NAME = "images.json"
_FOLDERS = ("scores", "failures", "drift", "latency", "waterfall", "layers")
_RECORDS: TypeAdapter[AnyRecord] = TypeAdapter(
    Annotated[AnyRecord, Field(discriminator="measurement")]
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """All records of one run directory, each list sorted by file name.

    Attributes:
        path: The directory.
        images: The images; None in a run of latency alone.
        scores: By file and runtime.
        failures: Cells without scores.
        drift: Against the reference.
        latency: By file and device.
        waterfalls: Chains of stages.
        layers: Intermediate results.
    """

    path: Path
    images: ImagesRecord | None
    scores: tuple[ScoreRecord, ...]
    failures: tuple[FailureRecord, ...]
    drift: tuple[DriftRecord, ...]
    latency: tuple[LatencyRecord, ...]
    waterfalls: tuple[WaterfallRecord, ...]
    layers: tuple[LayersRecord, ...]

    @property
    def reference(self) -> ScoreRecord | None:
        """The float reference's scores."""
        return next((record for record in self.scores if record.is_reference), None)


def _slug(*parts: str) -> str:
    """Make a file name of names that may hold anything; a short hash keeps it unique."""
    text = "\n".join(parts)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", "@".join(parts)).strip("-.")[:100]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def cell_name(file: str, runtime: str) -> str:
    """Return the file name, without ending, of all records of one file in one runtime."""
    return _slug(file, runtime)


def record_path(run: Path, record: AnyRecord) -> Path:
    """Return where a record of a run lies; one of the same cell has the same place."""
    match record:
        case ImagesRecord():
            return run / IMAGES_NAME
        case LatencyRecord(executed=executed):
            folder = "latency"
            name = _slug(
                executed.file, executed.runtime, record.device, f"{executed.threads}-threads"
            )
        case FailureRecord():
            folder, name = "failures", cell_name(record.file, record.runtime)
        case WaterfallRecord():
            folder, name = "waterfall", _slug(record.name)
        case (
            ScoreRecord(executed=executed)
            | DriftRecord(executed=executed)
            | LayersRecord(executed=executed)
        ):
            folder, name = record.measurement, cell_name(executed.file, executed.runtime)
    return run / folder / f"{name}.json"


def save_record(run: Path, record: AnyRecord) -> Path:
    """Write a record into a run directory, whole or not at all.

    Args:
        run: The directory; made if needed.
        record: The record; an older one of the same cell is replaced.

    Returns:
        The file.
    """
    path = record_path(run, record)
    write_text(path, record.model_dump_json(indent=1) + "\n")
    return path


def load_record(path: Path) -> AnyRecord:
    """Read one record.

    Raises:
        DataError: It is missing, damaged, or of another schema; the message names the fault.
    """
    next_step = "measure again with this version of edgefiqa"
    try:
        return _RECORDS.validate_python(json.loads(path.read_bytes()), strict=False)
    except OSError as error:
        raise DataError("the record cannot be read", value=path) from error
    except ValueError as error:  # of JSON, of UTF-8, and pydantic's
        found = str(error)
        if isinstance(error, ValidationError):
            faults = error.errors()
            places = (f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults[:5])
            found = "; ".join(places)
        raise DataError(f"not a valid record ({found})", value=path, next_step=next_step) from error


def load_run(path: Path) -> Run:
    """Read all records of a run directory.

    Raises:
        DataError: It holds no record, one is not valid, or scores belong to other images.
    """
    files = [file for folder in _FOLDERS for file in sorted((path / folder).glob("*.json"))]
    found = [load_record(file) for file in files]
    images = load_record(path / IMAGES_NAME) if (path / IMAGES_NAME).exists() else None
    if images is not None and not isinstance(images, ImagesRecord):
        raise DataError("this is no record of images", value=path / IMAGES_NAME)
    if not found:
        next_step = "edgefiqa drift EXPORT --images SET --out RUN makes one"
        raise DataError("no records here", value=path, next_step=next_step)
    run = Run(
        path=path,
        images=images,
        scores=tuple(record for record in found if isinstance(record, ScoreRecord)),
        failures=tuple(record for record in found if isinstance(record, FailureRecord)),
        drift=tuple(record for record in found if isinstance(record, DriftRecord)),
        latency=tuple(record for record in found if isinstance(record, LatencyRecord)),
        waterfalls=tuple(record for record in found if isinstance(record, WaterfallRecord)),
        layers=tuple(record for record in found if isinstance(record, LayersRecord)),
    )
    _check_images(run)
    return run


def _check_images(run: Run) -> None:
    measured = [record.images.sha256 for record in run.scores]
    measured += [record.images.sha256 for record in run.drift]
    measured += [record.images.sha256 for record in run.waterfalls]
    identities = set(measured)
    identities |= {run.images.identity.sha256} if run.images else set()
    if measured and (run.images is None or len(identities) != 1):
        next_step = "measure into a new directory"
        found = (
            f"{run.path} ({len(identities)} sets, images.json {'' if run.images else 'missing'})"
        )
        raise DataError("the records are of different images", value=found, next_step=next_step)
