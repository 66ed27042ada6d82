"""An export that was changed on its way is found out."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tests.conftest import Run

from edgefiqa.errors import ArtifactError
from edgefiqa.files import sha256_of
from edgefiqa.manifest import Manifest
from edgefiqa.verify import Check, Status, verify

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(export_dir: Path, tmp_path: Path) -> Path:
    """The export with its ONNX file only, to be tampered with."""
    out = tmp_path / "export"
    shutil.copytree(
        export_dir, out, ignore=shutil.ignore_patterns("*.pte", "*.mlpackage", "*.tfl*")
    )
    manifest = Manifest.load(out)
    kept = [artifact for artifact in manifest.artifacts if artifact.target == "onnx"]
    manifest.model_copy(update={"artifacts": kept}).save(out)
    return out


def failures(directory: Path) -> list[Check]:
    return [check for check in verify(directory) if check.status is Status.FAILED]


def onnx_file(directory: Path) -> Path:
    (path,) = directory.glob("*.onnx")
    return path


def record_hash(directory: Path) -> None:
    """Make the manifest agree with the tampered file, as a careless packager would."""
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    content["artifacts"][0]["sha256"] = sha256_of(onnx_file(directory))
    content["goldens_sha256"] = sha256_of(directory / "goldens" / "goldens.json")
    path.write_text(json.dumps(content))


def test_the_whole_export_is_good(export_dir: Path, run_here: Run) -> None:
    done = run_here("verify", export_dir, "--json", "--strict")
    checks = json.loads(done.stdout)
    assert {check["status"] for check in checks} <= {"ok", "not checked"}
    golden = {check["subject"]: check for check in checks if "goldens in" in check["check"]}
    assert len(golden) == 7
    unchecked = [check for check in checks if check["status"] == "not checked"]
    evaluated = [check for check in checks if check["check"] == "goldens in mil-reference"]
    for check in evaluated:
        assert "MIL reference evaluator" in check["detail"]
    for check in unchecked:
        assert check["subject"] in {check["subject"] for check in evaluated}
        assert "macOS" in check["detail"]
    assert f"{len(unchecked)} not checked" in done.stderr
    assert done.returncode == (1 if unchecked else 0)  # strict: nothing may be left unchecked


def test_an_untouched_copy_is_good(copy: Path, run_cli: Run) -> None:
    assert run_cli("verify", copy).returncode == 0
    assert run_cli("verify", copy, "--strict").returncode == 0


def test_a_changed_byte(copy: Path) -> None:
    content = bytearray(onnx_file(copy).read_bytes())
    content[len(content) // 2] ^= 1
    onnx_file(copy).write_bytes(content)
    (check,) = failures(copy)
    assert (check.subject, check.check) == (onnx_file(copy).name, "sha256")


def test_changed_weights_with_a_mended_hash(copy: Path) -> None:
    model = onnx.load(onnx_file(copy))
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = (np.frombuffer(weights.raw_data, np.float32) * 1.02).tobytes()
    onnx.save(model, onnx_file(copy))
    record_hash(copy)
    (check,) = failures(copy)
    assert check.check == "goldens in onnxruntime"
    assert "expected" in check.detail


def test_changed_metadata_with_a_mended_hash(copy: Path) -> None:
    model = onnx.load(onnx_file(copy))
    (prop,) = model.metadata_props
    prop.value = json.dumps({**json.loads(prop.value), "licence": "mine", "version": "9"})
    onnx.save(model, onnx_file(copy))
    record_hash(copy)
    (check,) = failures(copy)
    assert check.check == "metadata"
    assert "version, licence" in check.detail


def test_missing_and_unknown_files(copy: Path) -> None:
    onnx_file(copy).rename(copy / "other.onnx")
    missing, unknown = failures(copy)
    assert "missing" in missing.detail
    assert unknown.subject == "other.onnx"


def test_a_changed_golden_photo(copy: Path) -> None:
    photo = copy / "goldens" / "portrait.png"
    with Image.open(photo) as image:
        changed = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    changed.save(photo)
    found = failures(copy)
    assert (found[0].subject, found[0].check) == ("goldens/portrait.png", "photo → tensor")


def test_a_changed_golden_score(copy: Path) -> None:
    path = copy / "goldens" / "goldens.json"
    content = json.loads(path.read_text())
    content["cases"][0]["score"] += 0.01
    path.write_text(json.dumps(content))
    assert [check.subject for check in failures(copy)] == ["goldens/goldens.json"]
    record_hash(copy)
    assert [check.check for check in failures(copy)] == ["goldens in onnxruntime"]


def test_directories_that_are_no_export(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(ArtifactError, match="no manifest"):
        list(verify(tmp_path))
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="not valid"):
        list(verify(copy))
