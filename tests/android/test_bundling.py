"""Bundles of a small made-up export: no model is executed."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefiqa.bundling import bundle_android, bundle_zip
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.files import sha256_of, size_of
from edgefiqa.goldens import GoldenCase, Goldens, tensor_sha256
from edgefiqa.manifest import Artifact, Manifest
from edgefiqa.preprocess import InputContract
from edgefiqa.verify import Status, verify

SIZE = 16
FILES = {
    "m.tflite": ("tflite", "tflite"),
    "m.onnx": ("onnx", "onnx"),
    "m.pte": ("executorch", "executorch"),
    "m_coreml.pte": ("executorch", "executorch-coreml"),
    "m.mlpackage": ("coreml", "coreml"),
}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    out = tmp_path / "run/export"
    (out / "goldens").mkdir(parents=True)
    tensor = np.arange(SIZE * SIZE * 3, dtype=np.uint8).reshape(1, SIZE, SIZE, 3)
    for name in ("a.png", "a.tensor.png"):
        Image.fromarray(tensor[0]).save(out / "goldens" / name)
    case = GoldenCase(
        name="a",
        photo="a.png",
        photo_sha256=sha256_of(out / "goldens/a.png"),
        tensor="a.tensor.png",
        tensor_sha256=tensor_sha256(tensor),
        tensor_tolerance=0,
        score=0.5,
    )
    Goldens(
        size=SIZE, parent_sha256="0", reference="none", tolerances={"fp32": 1e-4}, cases=[case]
    ).save(out / "goldens")
    artifacts = []
    for name, (format_, target) in FILES.items():
        path = out / name
        if name.endswith("mlpackage"):
            path.mkdir()
            (path / "Manifest.json").write_text("{}")
        else:
            path.write_text(f"content of {name}")
        artifacts.append(
            Artifact(
                file=name,
                format=format_,
                target=target,
                precision="fp32",
                sha256=sha256_of(path),
                size_bytes=size_of(path),
                folded=[],
                structure={},
                tools={},
                parity=[],
                not_executed=[],
                seconds=0,
            )
        )
    card = {"name": "n", "version": "1", "licence": "L", "score_range": [0.0, 1.0], "sha256": "0"}
    Manifest(
        card=card,
        contract=InputContract(size=SIZE).to_dict(),
        goldens_sha256=sha256_of(out / "goldens/goldens.json"),
        artifacts=artifacts,
    ).save(out)
    return out


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "android"
    (root / "app/src/main").mkdir(parents=True)
    (root / "app/src/main/AndroidManifest.xml").write_text("<manifest/>")
    (root / "scorer-core/src/main/kotlin").mkdir(parents=True)
    (root / "scorer-core/src/main/kotlin/Json.kt").write_text("object Json")
    return root


def test_each_flavour_gets_its_models(export: Path, project: Path):
    result = bundle_android(export.parent, project)
    assert {file.file for file in result if file.reason} == {"m_coreml.pte", "m.mlpackage"}
    suffixes = {"litert": ".tflite", "executorch": ".pte", "onnxruntime": ".onnx"}
    for runtime, suffix in suffixes.items():
        assets = project / "app/src" / runtime / "assets/edgefiqa"
        bundle = json.loads((assets / "bundle.json").read_text())
        (model,) = bundle["models"]
        assert model["file"] == f"m{suffix}"
        assert model["runtime"] == runtime
        assert model["sha256"] == sha256_of(assets / model["file"])
        assert bundle["size"] == SIZE
    goldens = project / "app/src/main/assets/edgefiqa/goldens"
    assert {path.name for path in goldens.iterdir()} == {"goldens.json", "a.png", "a.tensor.png"}


def test_a_second_bundle_replaces_the_first(export: Path, project: Path):
    bundle_android(export, project)
    manifest = Manifest.load(export)
    kept = [artifact for artifact in manifest.artifacts if artifact.file == "m.onnx"]
    manifest.model_copy(update={"artifacts": kept}).save(export)
    bundle_android(export, project)
    assert not (project / "app/src/litert/assets/edgefiqa").exists()
    assert (project / "app/src/onnxruntime/assets/edgefiqa/m.onnx").is_file()


def test_changed_files_are_refused(export: Path, project: Path):
    (export / "m.onnx").write_text("another model")
    with pytest.raises(ArtifactError, match="changed"):
        bundle_android(export, project)
    with pytest.raises(ArtifactError, match="changed"):
        bundle_zip(export, project / "out.zip", sources=project)
    assert not (project / "out.zip").exists()


def test_missing_files_and_wrong_folders_are_refused(export: Path, project: Path, tmp_path: Path):
    with pytest.raises(UsageError):
        bundle_android(export, tmp_path)
    with pytest.raises(UsageError):
        bundle_zip(export, tmp_path / "o.zip", sources=tmp_path)
    with pytest.raises(ArtifactError):
        bundle_android(tmp_path, project)
    (export / "goldens/a.png").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        bundle_android(export, project)


def test_files_outside_the_export_are_refused(export: Path, project: Path):
    manifest = Manifest.load(export)
    outside = manifest.artifacts[0].model_copy(update={"file": "../secret"})
    manifest.model_copy(update={"artifacts": [outside]}).save(export)
    with pytest.raises(ArtifactError, match="outside"):
        bundle_android(export, project)


def test_an_unpacked_package_is_the_export(export: Path, project: Path, tmp_path: Path):
    out, again = tmp_path / "out.zip", tmp_path / "again.zip"
    bundle_zip(export, out, sources=project)
    bundle_zip(export, again, sources=project)
    assert out.read_bytes() == again.read_bytes()
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(out) as archive:
        archive.extractall(unpacked)
    assert (unpacked / "sources/scorer-core/src/main/kotlin/Json.kt").is_file()
    for artifact in Manifest.load(unpacked).artifacts:
        assert sha256_of(unpacked / artifact.file) == artifact.sha256
    # The made-up models cannot be executed, so photographs and hashes are what is left to verify.
    for name in FILES:
        path = unpacked / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    checks = [check for check in verify(unpacked) if check.check == "photo → tensor"]
    assert [check.status for check in checks] == [Status.OK]
