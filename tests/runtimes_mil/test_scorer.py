"""The evaluator as a runtime: what is loaded where, what is refused, what is imported."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtimes_mil.programs import save

from edgefiqa.benchmarks.latency.cells import list_latency_cells
from edgefiqa.errors import ArtifactError, MissingExtraError, PlatformError
from edgefiqa.runtimes import Format, load, read_metadata, runtime_for, runtime_of
from edgefiqa.runtimes.imports import import_coremltools

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools warns while it builds programs

SIZE = 6


def brightness(path: Path, *, name: str = "score", layout: str = "RGB", side: int = SIZE) -> Path:
    """A package whose score is the mean of its pixels over 255."""
    ct = import_coremltools()
    from coremltools.converters.mil.mil import Builder

    builder: Any = Builder
    channels = 1 if layout == "GRAYSCALE" else 3
    shape = (1, channels, SIZE, side)

    def build(image: Any) -> Any:
        mean = builder.reduce_mean(x=image, axes=[1, 2, 3], keep_dims=False)
        return builder.mul(x=mean, y=np.float32(1 / 255), name=name)

    colours = getattr(ct.colorlayout, layout)
    inputs = [ct.ImageType(name="image", shape=shape, color_layout=colours)]
    return save(path, build, {"image": shape}, inputs=inputs)


def test_scores_are_those_of_each_image(tmp_path: Path) -> None:
    scorer = load(brightness(tmp_path / "a.mlpackage"), runtime="mil-reference", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    scores = scorer.score(images)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, images.mean((1, 2, 3)) / 255, rtol=1e-6)
    assert scorer.size == SIZE
    assert scorer.runtime.startswith("MIL reference evaluator (torch ")
    assert scorer.score(images[:0]).shape == (0,)


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_core_ml_runs_its_packages_where_it_exists(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    wanted = "coreml" if system == "Darwin" else "mil-reference"
    assert runtime_for(Format.COREML).name == wanted


@pytest.mark.parametrize(
    ("content", "system", "wanted"),
    [
        (b"CoreMLBackend", "Linux", "mil-reference"),
        (b"CoreMLBackend", "Darwin", "executorch"),
        (b"XnnpackBackend", "Linux", "executorch"),
    ],
)
def test_programs_delegated_to_core_ml_are_evaluated_where_it_does_not_exist(
    content: bytes, system: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "student.pte"
    program.write_bytes(b"\0\0\0\0ET12" + bytes(8) + content)
    monkeypatch.setattr(platform, "system", lambda: system)
    assert runtime_of(program).name == wanted
    assert [cell.runtime for cell in list_latency_cells([program])] == [wanted]


def test_core_ml_itself_is_refused_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    with pytest.raises(PlatformError, match=r"macOS only.*mil-reference"):
        load(brightness(tmp_path / "a.mlpackage"), runtime="coreml")


@pytest.mark.parametrize("fault", [{"name": "other"}, {"layout": "GRAYSCALE"}, {"side": 8}])
def test_packages_that_are_no_scorer_are_refused(tmp_path: Path, fault: dict[str, Any]) -> None:
    path = brightness(tmp_path / "a.mlpackage", **fault)
    with pytest.raises(ArtifactError, match="not an edgefiqa scorer"):
        load(path, runtime="mil-reference")


@pytest.mark.parametrize("package", ["torch", "coremltools"])
def test_a_missing_package_is_named_with_its_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = brightness(tmp_path / "a.mlpackage")
    # Imported anew, as in a process that has neither.
    for name in [name for name in sys.modules if name.startswith("edgefiqa.runtimes.mil")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*edgefiqa\[mil\]"):
        load(path, runtime="mil-reference")


def test_metadata_is_read_without_torch(tmp_path: Path) -> None:
    ct = import_coremltools()
    plain, path = brightness(tmp_path / "a.mlpackage"), tmp_path / "b.mlpackage"
    model = ct.models.MLModel(str(plain), skip_model_load=True)
    model.user_defined_metadata["edgefiqa"] = json.dumps({"name": "test"})
    model.save(str(path))
    assert read_metadata(path) == {"name": "test"}
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path\n"
        "from edgefiqa.runtimes import read_metadata\n"
        f"print(read_metadata(Path({str(path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'name': 'test'}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import_coremltools(); import_tensorflow(); import triton",
        "import_tensorflow(); import_coremltools(); import triton",
        "import tensorflow; import_coremltools()",
    ],
)
def test_no_order_of_imports_crashes(imports: str) -> None:
    code = (
        "from edgefiqa.runtimes.imports import import_coremltools, import_tensorflow\n"
        f"{imports}\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "alive"), done.stderr[-2000:]


def test_coremltools_does_not_bring_tensorflow() -> None:
    code = (
        "import sys; from edgefiqa.runtimes.imports import import_coremltools\n"
        "import_coremltools(); print([n for n in ('tensorflow', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
