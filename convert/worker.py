"""One export: what its process is given, and what it does."""

import importlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefiqa.convert.parity import ParityReference
from edgefiqa.convert.targets import TARGETS
from edgefiqa.errors import MissingExtraError
from edgefiqa.manifest import Artifact, FileMetadata

__all__ = ["ExportJob", "load_reference", "run_job", "save_reference"]


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Everything a worker needs, by value.

    Attributes:
        source: Model directory, safetensors file or "default".
        target: A name of ``TARGETS``.
        size: Input side in pixels.
        path: The file to write.
        metadata: What goes into the file.
        reference: File of ``save_reference``.
        tolerance: Largest allowed |score − torch score|.
    """

    source: str
    target: str
    size: int
    path: Path
    metadata: FileMetadata
    reference: Path
    tolerance: float


def save_reference(reference: ParityReference, path: Path) -> None:
    """Write a reference for workers to read."""
    np.savez(
        path,
        names=np.array(reference.names),
        images=reference.images,
        scores=reference.scores,
        words=np.array([reference.runtime, reference.photos]),
    )


def load_reference(path: Path) -> ParityReference:
    """Read what ``save_reference`` wrote."""
    with np.load(path) as content:
        runtime, photos = (str(word) for word in content["words"])
        return ParityReference(
            names=[str(name) for name in content["names"]],
            images=content["images"],
            scores=content["scores"],
            runtime=runtime,
            photos=photos,
        )


def run_job(job: ExportJob) -> Artifact:
    """Export one file and check it; the file appears only if every check passes.

    Raises:
        EdgeFiqaError: As the exporter and the parity check raise.
    """
    from edgefiqa.convert.parity import check_parity
    from edgefiqa.convert.prepare import prepare_scorer
    from edgefiqa.files import sha256_of, size_of, staged_path
    from edgefiqa.models import load_model

    start = time.monotonic()
    target = TARGETS.get(job.target)
    model, _ = load_model(job.source)
    scorer = prepare_scorer(model, job.size)
    module, _, function = target.exporter.partition(":")
    try:
        export = getattr(importlib.import_module(module), function)
        with staged_path(job.path) as stage:
            notes = export(scorer, size=job.size, path=stage, metadata=job.metadata)
            parity, not_executed = check_parity(
                stage, target.format, load_reference(job.reference), tolerance=job.tolerance
            )
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in target.provides:
            raise
        raise MissingExtraError(package, target.extra) from error
    return Artifact(
        file=job.path.name,
        format=target.format.value,
        target=target.name,
        precision=job.metadata.precision,
        sha256=sha256_of(job.path),
        size_bytes=size_of(job.path),
        folded=notes.folded,
        structure=notes.structure,
        tools=notes.tools,
        parity=parity,
        not_executed=not_executed,
        seconds=round(time.monotonic() - start, 1),
    )
