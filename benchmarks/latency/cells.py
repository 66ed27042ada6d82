"""What there is to time: files, each in the runtime of its format."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.manifest import MANIFEST_NAME, Artifact, Manifest
from edgefiqa.measuring.cells import Cell
from edgefiqa.measuring.records import Twin
from edgefiqa.runtimes import RUNTIMES, Format, detect_format, runtime_of

__all__ = ["list_latency_cells"]


def list_latency_cells(paths: Sequence[Path], *, runtimes: Sequence[str] = ()) -> list[Cell]:
    """List what there is to measure, in the order given.

    Different files of one hash are one cell that names the others as twins. The very same path
    given twice is two cells: A against A shows what the machine can tell apart.

    Args:
        paths: Export directories, model directories and files.
        runtimes: Only these; empty takes each format's default.

    Raises:
        ArtifactError: A file is missing, of no known format, or not the one of its manifest.
        UsageError: Nothing is left to measure.
        UnknownNameError: There is no such runtime.
    """
    for name in runtimes:
        RUNTIMES.get(name)
    cells: dict[tuple[str, str, int], Cell] = {}
    given: dict[Path, int] = {}
    for path, artifact in (found for given_path in paths for found in _files_of(given_path)):
        repeat = given[path.resolve()] = given.get(path.resolve(), -1) + 1
        for cell in _cells_of(path, artifact, runtimes):
            key = (cell.sha256, cell.runtime, repeat)
            first = cells.get(key)
            if first is None:
                cells[key] = replace(cell, name=_again(cell.name, repeat))
            elif not repeat:
                twin = Twin(file=cell.name, target=cell.target, precision=cell.precision)
                cells[key] = replace(first, twins=(*first.twins, twin))
    if not cells:
        names = ", ".join(map(str, paths))
        allowed = ", ".join(name for name, _ in RUNTIMES)
        raise UsageError("no file for these runtimes", value=names, allowed=allowed)
    return _with_own_names(list(cells.values()))


def _again(name: str, repeat: int) -> str:
    return name if not repeat else f"{name} (again{'' if repeat == 1 else f' {repeat}'})"


def _files_of(path: Path) -> Iterator[tuple[Path, Artifact | None]]:
    if (path / MANIFEST_NAME).is_file():  # an .mlpackage has a Manifest.json
        yield from ((path / found.file, found) for found in Manifest.load(path).artifacts)
        return
    artifact: Artifact | None = None
    if (path.parent / MANIFEST_NAME).is_file():
        listed = Manifest.load(path.parent).artifacts
        artifact = next((candidate for candidate in listed if candidate.file == path.name), None)
    yield path, artifact


def _cells_of(path: Path, artifact: Artifact | None, runtimes: Sequence[str]) -> Iterator[Cell]:
    format_ = detect_format(path)
    cell = Cell(
        path=path,
        name=path.name,
        sha256="",
        target=artifact.target if artifact else format_.value,
        precision=artifact.precision if artifact else "unknown",
        runtime="",
        format=format_,
    )
    if format_ is Format.TORCH and artifact is None:
        cell = replace(cell, name=cell.file.name, precision="fp32")
    digest = sha256_of(cell.file)
    if artifact is not None and digest != artifact.sha256:
        found = f"sha256 {digest[:16]}…, recorded {artifact.sha256[:16]}…"
        what = f"not the file of the manifest ({found})"
        raise ArtifactError(what, value=path, next_step="export it again")
    default = runtime_of(path).name
    able = [name for name, row in RUNTIMES if row.format is format_ or name == default]
    for runtime in [name for name in able if name in runtimes] if runtimes else [default]:
        yield replace(cell, sha256=digest, runtime=runtime)


def _with_own_names(cells: list[Cell]) -> list[Cell]:
    """Prefix the folder where two directories hold different files of one name."""
    places: dict[tuple[str, str], int] = {}
    for cell in cells:
        places[cell.name, cell.runtime] = places.get((cell.name, cell.runtime), 0) + 1
    return [
        replace(cell, name=f"{cell.file.absolute().parent.name}/{cell.name}")
        if places[cell.name, cell.runtime] > 1
        else cell
        for cell in cells
    ]
