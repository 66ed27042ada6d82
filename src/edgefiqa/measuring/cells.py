"""What there is to score in an export directory: each file in each runtime of its format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgefiqa.errors import ArtifactError
from edgefiqa.files import sha256_of
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.records import Twin
from edgefiqa.runtimes import RUNTIMES, Format, runtime_of

__all__ = ["REWRITTEN", "TORCH", "Cell", "list_cells"]

REWRITTEN = "rewritten"
"""The target of the cell that runs the export's graph rewriting in torch, before any conversion."""

TORCH = "torch"
"""The runtime of the reference."""

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One file in one runtime: what is scored or timed.

    Attributes:
        path: The file, or a model directory for torch.
        name: The file's name in records.
        sha256: SHA-256 of the file, as the manifest says or as it was found.
        target: The ``--to`` name that made it; its format where no manifest says.
        precision: As the manifest has it; "unknown" without one.
        runtime: A name of ``RUNTIMES``, or of an external tool.
        format: The kind of file.
        is_reference: Whether the other cells are compared with this one.
        twins: Other files of the same hash.
        stale: Why it must not be executed; empty if it may.
    """

    path: Path
    name: str
    sha256: str
    target: str
    precision: str
    runtime: str
    format: Format
    is_reference: bool = False
    twins: tuple[Twin, ...] = ()
    stale: str = ""

    @property
    def file(self) -> Path:
        """The file that is hashed: of a model directory, the weights."""
        weights = self.path / _WEIGHTS
        return weights if weights.is_file() else self.path


def _packaged_weights() -> Path:
    import edgefiqa

    return Path(edgefiqa.__file__).parent / "weights"


def _reference_cell(manifest: Manifest, reference: Path | None) -> Cell:
    folder = _packaged_weights() if reference is None else reference
    folder = folder.parent if folder.name == _WEIGHTS else folder
    weights = folder / _WEIGHTS
    expected = str(manifest.card.get("sha256", ""))
    if not weights.is_file() or sha256_of(weights) != expected:
        raise ArtifactError(
            "these are not the weights that the export was made from",
            value=weights,
            allowed=f"{_WEIGHTS} of sha256 {expected[:16]}…",
            next_step="name the model directory with --reference",
        )
    return Cell(
        path=folder,
        name=_WEIGHTS,
        sha256=expected,
        target=TORCH,
        precision="fp32",
        runtime=TORCH,
        format=Format.TORCH,
        is_reference=True,
    )


def list_cells(
    export: Path,
    *,
    reference: Path | None = None,
    runtimes: Sequence[str] = (),
) -> list[Cell]:
    """List what there is to score: the reference, the same rewritten for export, each file.

    Each file is scored by every runtime of its format.

    Files with one hash become one cell that names the others as twins.

    Args:
        export: A directory with a manifest.
        reference: Model directory of the float weights; None takes those of the package.
        runtimes: Only these; empty takes all. The reference always runs in torch.

    Returns:
        The cells, the reference first.

    Raises:
        ArtifactError: There is no manifest, or the weights are not the ones it names.
        UnknownNameError: There is no such runtime.
    """
    for name in runtimes:
        RUNTIMES.get(name)
    manifest = Manifest.load(export)
    cells: dict[tuple[str, str], Cell] = {}
    for artifact in manifest.artifacts:
        path = export / artifact.file
        found = sha256_of(path) if path.exists() else ""
        stale = "" if found == artifact.sha256 else _stale(found, artifact.sha256)
        group = artifact.file if stale else found  # a stale file is nobody's twin
        default = "" if stale else runtime_of(path).name
        for name, row in RUNTIMES:
            fits = row.format.value == artifact.format or name == default
            if not fits or (runtimes and name not in runtimes):
                continue
            key = (group, name)
            if key in cells:
                twin = Twin(
                    file=artifact.file, target=artifact.target, precision=artifact.precision
                )
                cells[key] = replace(cells[key], twins=(*cells[key].twins, twin))
                continue
            cells[key] = Cell(
                path=path,
                name=artifact.file,
                sha256=artifact.sha256,
                target=artifact.target,
                precision=artifact.precision,
                runtime=name,
                format=row.format,
                stale=stale,
            )
    start = _reference_cell(manifest, reference)
    if start.runtime != TORCH:
        return [start, *cells.values()]
    # A separate name: records of one cell have one place.
    rewritten = replace(start, name=f"{REWRITTEN} {_WEIGHTS}", target=REWRITTEN, is_reference=False)
    return [start, rewritten, *cells.values()]


def _stale(found: str, expected: str) -> str:
    if not found:
        return "the file is missing"
    return f"not the file of the manifest: sha256 {found[:16]}…, recorded {expected[:16]}…"
