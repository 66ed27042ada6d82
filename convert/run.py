"""The convert stage: weights in, checked scorer files, manifest and golden vectors out."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgefiqa.convert.parity import ParityReference, load_tolerances
from edgefiqa.convert.photos import PhotoSet, golden_photos, load_photos
from edgefiqa.convert.targets import ExportTarget
from edgefiqa.convert.worker import ExportJob, run_job, save_reference
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.files import sha256_of, staged_path
from edgefiqa.goldens import GOLDENS_DIR, GOLDENS_NAME, GoldenCase, Goldens, tensor_sha256
from edgefiqa.isolation import call_isolated
from edgefiqa.manifest import MANIFEST_NAME, Artifact, FileMetadata, Manifest
from edgefiqa.models import ModelCard, load_model
from edgefiqa.preprocess import InputContract, load_tensor
from edgefiqa.runtimes.torch import score_with_torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEFAULT_PHOTO_LIMIT", "run"]

DEFAULT_PHOTO_LIMIT = 100
_log = logging.getLogger(__name__)


def _torch_reference() -> str:
    import torch

    return f"torch {torch.__version__}, the network as trained"


def _write_goldens(model: "nn.Module", card: ModelCard, size: int, out: Path) -> str:
    """Write the golden vectors; return the sha256 of ``goldens.json``."""
    directory = out / GOLDENS_DIR
    cases = []
    with staged_path(directory) as stage:
        stage.mkdir()
        for photo in golden_photos():
            tensor = load_tensor(photo.content, size, name=photo.name)
            file, picture = f"{photo.name}{photo.suffix}", f"{photo.name}.tensor.png"
            (stage / file).write_bytes(photo.content)
            Image.fromarray(tensor[0]).save(stage / picture, optimize=True)
            cases.append(
                GoldenCase(
                    name=photo.name,
                    photo=file,
                    photo_sha256=sha256_of(stage / file),
                    tensor=picture,
                    tensor_sha256=tensor_sha256(tensor),
                    tensor_tolerance=photo.tensor_tolerance,
                    score=float(score_with_torch(model, tensor)[0]),
                )
            )
        Goldens(
            size=size,
            parent_sha256=card.sha256,
            reference=_torch_reference(),
            tolerances=load_tolerances(),
            cases=cases,
        ).save(stage)
    return sha256_of(directory / GOLDENS_NAME)


def _existing(out: Path, card: ModelCard, size: int) -> list[Artifact]:
    """Return what an earlier run exported here from the same weights at the same size.

    Raises:
        UsageError: If the directory holds the export of something else.
    """
    if not (out / MANIFEST_NAME).exists():
        return []
    manifest = Manifest.load(out)
    if manifest.card.get("sha256") == card.sha256 and manifest.contract.get("size") == size:
        return [artifact for artifact in manifest.artifacts if (out / artifact.file).exists()]
    raise UsageError(
        "this directory holds the export of other weights or of another size",
        value=out,
        next_step="choose another --out, or remove it",
    )


def run(
    source: str,
    targets: list[ExportTarget],
    *,
    out: Path,
    size: int | None = None,
    photos: Path | None = None,
    photo_limit: int = DEFAULT_PHOTO_LIMIT,
    on_start: Callable[[str], None] = lambda _name: None,
    on_done: Callable[[Artifact], None] = lambda _artifact: None,
) -> Manifest:
    """Export a model to several formats and prove each file against torch.

    Args:
        source: Model directory, safetensors file, or "default".
        targets: What to export to.
        out: Directory for the files. An earlier export of the same weights at the same size is
            added to; its files of the same name are replaced.
        size: Input side in pixels; None takes the card's.
        photos: Folder of photographs for the parity check, besides the built-in ones.
        photo_limit: At most this many of them.
        on_start: Called with the file's name before each export.
        on_done: Called with each finished artifact.

    Returns:
        The manifest as written.

    Raises:
        ParityError: If a file disagrees with torch; that file is not written.
        EdgeFiqaError: For everything else that a user can mend.
    """
    model, card = load_model(source)
    contract = InputContract(size=card.size if size is None else size)
    if out.exists() and not out.is_dir():
        raise UsageError("--out is a file", value=out, allowed="a directory, new or existing")
    photo_set = load_photos(contract.size, photos, photo_limit)
    out.mkdir(parents=True, exist_ok=True)
    kept = _existing(out, card, contract.size)
    reference = _score_reference(model, photo_set, source)
    manifest = Manifest(
        card=card.model_dump(mode="json"),
        contract=contract.to_dict(),
        goldens_sha256=_write_goldens(model, card, contract.size, out),
        artifacts=kept,
    )
    manifest.save(out)
    with tempfile.TemporaryDirectory() as scratch:
        scores = Path(scratch) / "reference.npz"
        save_reference(reference, scores)
        for job in _jobs(source, targets, card, contract, out=out, reference=scores):
            on_start(job.path.name)
            log = out / "logs" / f"{job.path.name}.log"
            artifact = call_isolated(log, run_job, job)
            others = [other for other in manifest.artifacts if other.file != artifact.file]
            manifest = manifest.model_copy(update={"artifacts": [*others, artifact]})
            # After every file: an interrupted export keeps what it has proved.
            manifest.save(out)
            on_done(artifact)
    return manifest


def _score_reference(model: "nn.Module", photos: PhotoSet, source: str) -> ParityReference:
    """Score the photographs with the network as trained.

    Raises:
        ArtifactError: A score is not finite: no file could be compared with it.
    """
    reference = ParityReference(
        names=photos.names,
        images=photos.images,
        scores=score_with_torch(model, photos.images),
        runtime=_torch_reference(),
        photos=photos.source,
    )
    if not np.isfinite(reference.scores).all():
        raise ArtifactError("the model itself gives scores that are not finite", value=source)
    return reference


def _jobs(
    source: str,
    targets: Sequence[ExportTarget],
    card: ModelCard,
    contract: InputContract,
    *,
    out: Path,
    reference: Path,
) -> Iterator[ExportJob]:
    """Yield one job for each file: every target in each of its precisions."""
    tolerances = load_tolerances()
    for target in targets:
        for precision in target.precisions:
            yield ExportJob(
                source=source,
                target=target.name,
                size=contract.size,
                path=out / target.file_name(card.name, contract.size, precision),
                metadata=FileMetadata(
                    name=card.name,
                    model=card.model,
                    version=card.version,
                    licence=card.licence,
                    score_range=card.score_range,
                    parent_sha256=card.sha256,
                    precision=precision,
                    contract=contract.to_dict(),
                ),
                reference=reference,
                tolerance=tolerances[precision],
            )
