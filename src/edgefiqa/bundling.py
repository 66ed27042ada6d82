"""Handing an export on: into the Android project's assets, or as one ZIP file.

::

    export/  manifest.json  ──▶  app/src/main/assets/edgefiqa/goldens/
             *.tflite …          app/src/<runtime>/assets/edgefiqa/bundle.json + its models
             goldens/       ──▶  out.zip: the export, unchanged, with README and source files

Every file is hashed against the manifest before it is copied; a changed one is refused.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.files import sha256_of, staged_path, write_text
from edgefiqa.goldens import GOLDENS_DIR, GOLDENS_NAME, Goldens
from edgefiqa.manifest import MANIFEST_NAME, Artifact, Manifest
from edgefiqa.preprocess import InputContract
from edgefiqa.runtimes.formats import Format

__all__ = [
    "ASSETS",
    "BUNDLE_NAME",
    "RUNTIMES",
    "BundledFile",
    "bundle_android",
    "bundle_document",
    "bundle_zip",
]

BUNDLE_NAME = "bundle.json"
ASSETS = Path("assets/edgefiqa")
RUNTIMES = {
    Format.TFLITE: "litert",
    Format.EXECUTORCH: "executorch",
    Format.ONNX: "onnxruntime",
}
"""The app's flavour for each format that Android executes."""

_APPLE_TARGETS = ("executorch-coreml",)
_SOURCES = ("scorer-core/src/main/kotlin", "app/src", "ios")
_SOURCE_SUFFIXES = (".kt", ".swift", ".md")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

_ZIP_README = """# {name} {version}

Face image quality scorer; licence of the weights: {licence}.

- Input: uint8 RGB [1, {size}, {size}, 3]: the photograph upright, short side resized to {size} px
  with Pillow's antialiased bilinear filter, the central square.
- Output: one float32 score, nominally {low:g} to {high:g}, not clipped; higher is better.
- `manifest.json`: every file with sha256, precision and tools.
- `goldens/`: photographs with the tensor and the score that they must give.
- `sources/`: Kotlin for Android and Swift for iOS. `scorer-core` is pure Kotlin; each runner needs
  its runtime's library and a `BuildConfig.RUNTIME_VERSION` string.
- To check this folder on any computer: `pip install "edgefiqa[tflite]"`, then `edgefiqa verify .`
"""


@dataclass(frozen=True, kw_only=True)
class BundledFile:
    """One file of the export.

    Attributes:
        file: Its name in the manifest.
        target: Where it went, or an empty text.
        reason: Why it was left out, or an empty text.
    """

    file: str
    target: str = ""
    reason: str = ""


def _open_export(run_dir: Path) -> tuple[Path, Manifest, Goldens]:
    """Find and check an export: in the directory itself or in its folder ``export``."""
    directory = run_dir
    if not (run_dir / MANIFEST_NAME).is_file() and (run_dir / "export" / MANIFEST_NAME).is_file():
        directory = run_dir / "export"
    manifest = Manifest.load(directory)
    if not manifest.artifacts:
        raise ArtifactError("the export holds no file", value=directory)
    goldens_file = directory / GOLDENS_DIR / GOLDENS_NAME
    _require_hash(goldens_file, manifest.goldens_sha256)
    goldens = Goldens.load(directory / GOLDENS_DIR)
    for name in (*_goldens_files(goldens), *(artifact.file for artifact in manifest.artifacts)):
        if Path(name).name != name:
            raise ArtifactError("the export names a file outside itself", value=name)
    for case in goldens.cases:
        _require_hash(directory / GOLDENS_DIR / case.photo, case.photo_sha256)
    return directory, manifest, goldens


def _require_hash(path: Path, expected: str) -> None:
    if not path.exists():
        raise ArtifactError("a file of the export is missing", value=path)
    if sha256_of(path) != expected:
        raise ArtifactError(
            "a file of the export has changed since it was recorded",
            value=path,
            next_step="run edgefiqa convert again",
        )


def _runtime_of(artifact: Artifact) -> str | None:
    if artifact.target in _APPLE_TARGETS:
        return None
    return next((name for kind, name in RUNTIMES.items() if kind.value == artifact.format), None)


def bundle_document(manifest: Manifest, artifacts: list[Artifact], runtime: str) -> dict[str, Any]:
    """Return ``bundle.json`` of one flavour; the Kotlin class ``Bundle`` reads it.

    Args:
        manifest: Manifest of the export.
        artifacts: Those that go into this flavour.
        runtime: The flavour.
    """
    return {
        "schema_version": 1,
        "name": manifest.card["name"],
        "size": InputContract.from_dict(manifest.contract).size,
        "score_range": list(manifest.card["score_range"]),
        "goldens_sha256": manifest.goldens_sha256,
        "models": [
            {
                "file": artifact.file,
                "runtime": runtime,
                "precision": artifact.precision,
                "sha256": artifact.sha256,
                "size_bytes": artifact.size_bytes,
            }
            for artifact in artifacts
        ],
    }


def _goldens_files(goldens: Goldens) -> list[str]:
    names = [name for case in goldens.cases for name in (case.photo, case.tensor)]
    return [GOLDENS_NAME, *names]


def _write_flavour(
    directory: Path, manifest: Manifest, artifacts: list[Artifact], runtime: str, project: Path
) -> Path:
    target = project / "app/src" / runtime / ASSETS
    with staged_path(target) as stage:
        stage.mkdir()
        for artifact in artifacts:
            shutil.copyfile(directory / artifact.file, stage / artifact.file)
        document = bundle_document(manifest, artifacts, runtime)
        write_text(stage / BUNDLE_NAME, json.dumps(document, indent=2) + "\n")
    return target


def bundle_android(run_dir: Path, project: Path) -> list[BundledFile]:
    """Copy an export into the assets of the Android project.

    Each flavour gets the models of its runtime; the golden vectors are shared. What an earlier
    bundle left there is replaced.

    Args:
        run_dir: What ``edgefiqa convert`` wrote, or a folder with it as ``export``.
        project: The Gradle project, ``android_demo``.

    Returns:
        What became of every file of the export.

    Raises:
        UsageError: If this is not the Android project.
        ArtifactError: If the export is damaged, or no file of it runs on Android.
    """
    if not (project / "app/src/main/AndroidManifest.xml").is_file():
        raise UsageError(
            "this is not the Android project", value=project, allowed="the folder android_demo"
        )
    directory, manifest, goldens = _open_export(run_dir)
    by_runtime: dict[str, list[Artifact]] = {name: [] for name in RUNTIMES.values()}
    result = []
    for artifact in manifest.artifacts:
        runtime = _runtime_of(artifact)
        if runtime is None:
            result.append(BundledFile(file=artifact.file, reason="does not run on Android"))
            continue
        _require_hash(directory / artifact.file, artifact.sha256)
        by_runtime[runtime].append(artifact)
    if not any(by_runtime.values()):
        raise ArtifactError(
            "no file of this export runs on Android",
            value=directory,
            next_step="edgefiqa convert --to tflite,executorch,onnx adds some",
        )
    for runtime, artifacts in by_runtime.items():
        if artifacts:
            target = _write_flavour(directory, manifest, artifacts, runtime, project)
            result += [BundledFile(file=a.file, target=str(target / a.file)) for a in artifacts]
        else:
            shutil.rmtree(project / "app/src" / runtime / ASSETS, ignore_errors=True)
    shared = project / "app/src/main" / ASSETS
    with staged_path(shared) as stage:
        (stage / GOLDENS_DIR).mkdir(parents=True)
        for name in _goldens_files(goldens):
            shutil.copyfile(directory / GOLDENS_DIR / name, stage / GOLDENS_DIR / name)
    return result


def _zip_entries(directory: Path, manifest: Manifest, goldens: Goldens) -> Iterator[Path]:
    yield directory / MANIFEST_NAME
    for name in _goldens_files(goldens):
        yield directory / GOLDENS_DIR / name
    for artifact in manifest.artifacts:
        path = directory / artifact.file
        _require_hash(path, artifact.sha256)
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        else:
            yield path


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add an entry whose bytes do not depend on when or by whom it was made."""
    entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def bundle_zip(run_dir: Path, out: Path, *, sources: Path) -> list[BundledFile]:
    """Write a hand-over package: the export, a README, and Kotlin and Swift source files.

    Unpacked, it is an export directory that ``edgefiqa verify`` checks. The same export gives the
    same bytes.

    Args:
        run_dir: What ``edgefiqa convert`` wrote, or a folder with it as ``export``.
        out: The ZIP file.
        sources: ``android_demo``, whose Kotlin and Swift files go along.

    Returns:
        What became of every file of the export.

    Raises:
        UsageError: If ``sources`` is not the Android project.
        ArtifactError: If the export is damaged.
    """
    if not (sources / "scorer-core").is_dir():
        raise UsageError(
            "this is not the Android project", value=sources, allowed="the folder android_demo"
        )
    directory, manifest, goldens = _open_export(run_dir)
    contract = InputContract.from_dict(manifest.contract)
    low, high = manifest.card["score_range"]
    card = {key: manifest.card[key] for key in ("name", "version", "licence")}
    with staged_path(out) as stage, zipfile.ZipFile(stage, "w") as archive:
        readme = _ZIP_README.format(**card, size=contract.size, low=low, high=high)
        _add(archive, "README.md", readme.encode())
        for path in _zip_entries(directory, manifest, goldens):
            _add(archive, path.relative_to(directory).as_posix(), path.read_bytes())
        for folder in _SOURCES:
            for path in sorted((sources / folder).rglob("*")):
                if path.suffix in _SOURCE_SUFFIXES:
                    name = f"sources/{path.relative_to(sources).as_posix()}"
                    _add(archive, name, path.read_bytes())
    return [BundledFile(file=a.file, target=str(out)) for a in manifest.artifacts]
