"""The convert stage as a whole: what it writes, adds to and refuses."""

import stat
from pathlib import Path

import pytest
from PIL import Image
from tests.models import save_lively

from edgefiqa.convert.run import run
from edgefiqa.convert.targets import parse_targets
from edgefiqa.errors import DataError, UsageError
from edgefiqa.goldens import Goldens
from edgefiqa.manifest import Manifest

pytestmark = pytest.mark.slow
SIZE = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    save_lively("mspt", SIZE, out)
    return out


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("album")
    for index in range(2):
        Image.effect_noise((90, 70 + index), 50).convert("RGB").save(folder / f"{index}.png")
    (folder / "2.jpg").write_bytes(b"not a photograph")
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "new" / "folder"
    started: list[str] = []
    run(str(model), parse_targets("onnx"), out=out, photos=album, on_start=started.append)
    assert started == ["lively_64_fp32.onnx"]
    return out


def test_unreadable_photographs_are_counted(exported: Path) -> None:
    (artifact,) = Manifest.load(exported).artifacts
    (parity,) = artifact.parity
    assert "2 of the 3 photographs given (1 unreadable)" in parity.photos
    assert parity.images == 22


def test_goldens_are_complete_and_readable_by_others(exported: Path) -> None:
    goldens = Goldens.load(exported / "goldens")
    assert goldens.size == SIZE
    assert len(goldens.cases) == 11
    for case in goldens.cases:
        with Image.open(exported / "goldens" / case.tensor) as tensor:
            assert (tensor.size, tensor.mode) == ((SIZE, SIZE), "RGB")
    assert (exported / "goldens").stat().st_mode & stat.S_IROTH
    assert not list(exported.glob(".staged*"))


def test_a_second_export_is_added(exported: Path, model: Path) -> None:
    before = Manifest.load(exported).artifacts
    run(str(model), parse_targets("executorch"), out=exported)
    after = Manifest.load(exported).artifacts
    assert after[: len(before)] == before
    assert [artifact.target for artifact in after] == ["onnx", "executorch"]


def test_another_size_or_model_is_not_mixed_in(exported: Path, model: Path) -> None:
    content = (exported / "manifest.json").read_bytes()
    for source, size in ((str(model), 96), ("default", SIZE)):
        with pytest.raises(UsageError, match="other weights or of another size"):
            run(source, parse_targets("onnx"), out=exported, size=size)
    assert (exported / "manifest.json").read_bytes() == content


def test_useless_folders_and_outputs_are_refused(model: Path, tmp_path: Path) -> None:
    empty, broken, file = tmp_path / "empty", tmp_path / "broken", tmp_path / "file"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"")
    file.touch()
    targets = parse_targets("onnx")
    with pytest.raises(UsageError, match="no photo in this folder"):
        run(str(model), targets, out=tmp_path / "out", photos=empty)
    with pytest.raises(DataError, match=r"none of the photographs can be read.*broken"):
        run(str(model), targets, out=tmp_path / "out", photos=broken)
    with pytest.raises(UsageError, match="--out is a file"):
        run(str(model), targets, out=file)
    assert not (tmp_path / "out").exists()
