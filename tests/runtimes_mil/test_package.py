"""Files that are not what they should be, and hashes of those that are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtimes_mil.programs import save

from edgefiqa.errors import ArtifactError
from edgefiqa.runtimes.imports import import_coremltools
from edgefiqa.runtimes.mil import MilModel, UnsupportedOp

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools warns while it builds programs

INSIDE = Path("Data/com.apple.CoreML")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear layer big enough for a weight file."""
    from coremltools.converters.mil.mil import Builder

    builder: Any = Builder
    weight = np.random.default_rng(0).normal(0, 1, (64, 32)).astype(np.float32)
    path = tmp_path_factory.mktemp("mil") / "linear.mlpackage"
    return save(path, lambda x: builder.linear(x=x, weight=weight), {"x": (1, 32)})


def _edit_spec(package: Path, change: Callable[[Any], None]) -> None:
    file = package / INSIDE / "model.mlmodel"
    spec = import_coremltools().proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    change(spec)
    file.write_bytes(spec.SerializeToString())


def _copy(package: Path, folder: Path) -> Path:
    return Path(shutil.copytree(package, folder / package.name))


def test_hashes_are_of_the_weights_and_the_ops(package: Path, tmp_path: Path) -> None:
    model = MilModel.load(package)
    assert model.weights_sha256 is not None
    assert [op.type for op in model.ops] == ["linear"]
    changed = _copy(package, tmp_path)
    weights = changed / INSIDE / "weights" / "weight.bin"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    other = MilModel.load(changed)
    assert other.ops_sha256 == model.ops_sha256
    assert other.weights_sha256 != model.weights_sha256


def test_missing_weights_are_named(package: Path, tmp_path: Path) -> None:
    broken = _copy(package, tmp_path)
    (broken / INSIDE / "weights" / "weight.bin").unlink()
    with pytest.raises(ArtifactError, match=r"incomplete: weight\.bin is missing"):
        MilModel.load(broken)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 4000])
def test_truncated_weights_are_refused(package: Path, tmp_path: Path, size: int) -> None:
    broken = _copy(package, tmp_path)
    weights = broken / INSIDE / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ArtifactError, match=r"cannot load this file"):
        MilModel.load(broken)


def test_a_truncated_model_file_is_refused(package: Path, tmp_path: Path) -> None:
    broken = _copy(package, tmp_path)
    file = broken / INSIDE / "model.mlmodel"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtifactError):
        MilModel.load(broken)


@pytest.mark.parametrize("name", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"])
def test_a_package_without_a_file_is_refused(package: Path, tmp_path: Path, name: str) -> None:
    broken = _copy(package, tmp_path)
    (broken / name).unlink()
    with pytest.raises(ArtifactError, match=r"not a Core ML package|model file is missing"):
        MilModel.load(broken)


def test_a_damaged_manifest_is_refused(package: Path, tmp_path: Path) -> None:
    broken = _copy(package, tmp_path)
    manifest = broken / "Manifest.json"
    content = json.loads(manifest.read_text())
    del content["rootModelIdentifier"]
    manifest.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="rootModelIdentifier"):
        MilModel.load(broken)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        MilModel.load(tmp_path / "none.mlpackage")


def test_a_neural_network_is_refused(package: Path, tmp_path: Path) -> None:
    other = _copy(package, tmp_path)

    def change(spec: Any) -> None:
        spec.neuralNetwork.layers.add().name = "one"

    _edit_spec(other, change)
    with pytest.raises(ArtifactError, match="no ML Program but a neuralNetwork"):
        MilModel.load(other)


@pytest.mark.parametrize("version", ["opset", "specification"])
def test_an_unknown_opset_is_refused(package: Path, tmp_path: Path, version: str) -> None:
    newer = _copy(package, tmp_path)

    def change(spec: Any) -> None:
        if version == "opset":
            spec.mlProgram.functions["main"].opset = "CoreML77"
        else:
            spec.specificationVersion = 77

    _edit_spec(newer, change)
    with pytest.raises(ArtifactError, match=r"unknown opset .*77.*Allowed: CoreML5"):
        MilModel.load(newer)


def test_an_unsupported_op_is_named(tmp_path: Path) -> None:
    from coremltools.converters.mil.mil import Builder

    builder: Any = Builder

    def build(x: Any) -> Any:
        return builder.add(x=x, y=builder.random_normal(shape=[1, 4], mean=0.0, stddev=1.0))

    path = save(tmp_path / "random.mlpackage", build, {"x": (1, 4)})
    with pytest.raises(UnsupportedOp, match="'random_normal'") as caught:
        MilModel.load(path)
    assert caught.value.op_type == "random_normal"
