"""The stage as a whole, on a small network in ONNX: files, table, failing closed, going on."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import yaml
from scipy.stats import spearmanr
from tests.conftest import Run
from tests.models import save_lively
from tests.quantize.test_images import noise
from tests.sets import make_set

from edgefiqa.convert.run import run as convert
from edgefiqa.convert.targets import parse_targets
from edgefiqa.data.image_set import Split, open_image_set
from edgefiqa.errors import UsageError
from edgefiqa.files import sha256_of
from edgefiqa.manifest import Manifest
from edgefiqa.measuring.image_source import SourceSpec
from edgefiqa.quantize.measured import MeasuredFile
from edgefiqa.quantize.run import Options, run
from edgefiqa.quantize.settings import QuantizeRecipe
from edgefiqa.runtimes import load
from edgefiqa.verify import Status, verify

pytestmark = pytest.mark.slow

SIZE = 64
MODEL = "timm:test_efficientnet"  # depthwise and dense convolutions, a head; exported in seconds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Weights, their export, and an image set whose labels are noise around brightness."""
    folder = tmp_path_factory.mktemp("quantize")
    save_lively(MODEL, SIZE, folder / "weights")
    convert(str(folder / "weights"), parse_targets("onnx"), out=folder / "export")
    images = noise(40, 3)
    labels = [float(image.mean()) / 255 for image in images]
    make_set(folder / "set", images, labels=labels, splits=["train"] * 20 + ["held_back"] * 20)
    return folder / "weights", folder / "export", folder / "set"


def recipe(**changes: object) -> QuantizeRecipe:
    values = {"name": "own_w8", "modes": ["static", "weight", "float"], "golden_tolerance": 5.0}
    return QuantizeRecipe.model_validate({**values, **changes})


def options(made: tuple[Path, Path, Path], out: Path, **changes: object) -> Options:
    weights, export, images = made
    values: dict[str, object] = {
        "export": export,
        "out": out,
        "source": str(weights),
        "calibration": SourceSpec(path=images),
        "evaluation": SourceSpec(path=images),
    }
    return Options(**{**values, **changes})  # type: ignore[arg-type]


def test_files_table_and_figures(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = run(recipe(), options(made, out))
    assert not record.failed
    (artifact,) = Manifest.load(out).artifacts
    path = out / artifact.file
    assert path.name == "lively_64_own_w8.onnx"
    assert artifact.sha256 == sha256_of(path) == record.results["onnx"][-1].sha256
    assert [check.status for check in verify(out) if check.status is Status.FAILED] == []

    # The figures are those of the file itself, scored with ONNX Runtime and scipy alone.
    images = open_image_set(made[2])
    rows = images.rows(Split.HELD_BACK)
    session = ort.InferenceSession(str(path))
    floats = load(made[1] / Manifest.load(made[1]).artifacts[0].file, threads=1)
    scores, wanted = [], []
    for row in rows:
        image = images.image(int(row))[None]
        scores.append(float(session.run(None, {"image": image})[0][0]))
        wanted.append(float(floats.score(image)[0]))
    figures = record.results["onnx"][-1].figures
    errors = np.array(scores) - wanted
    assert figures["max_error"].value == pytest.approx(np.abs(errors).max(), abs=2e-3)
    assert figures["bias"].value == pytest.approx(errors.mean(), abs=1e-3)
    labels = images.labels[rows]
    delta = spearmanr(scores, labels).statistic - spearmanr(wanted, labels).statistic
    assert figures["delta_srcc"].value == pytest.approx(delta, abs=2e-3)

    layers = record.results["onnx"][-1].layers
    assert {layer.mode for layer in layers} <= {"static", "weight", "float"}
    assert record.results["onnx"][-1].int8_share == pytest.approx(
        sum(layer.macs for layer in layers if layer.mode == "static")
        / sum(layer.macs for layer in layers)
    )
    assert len(record.calibration.keys) == len(record.evaluation.keys) == 20
    table = (out / "quantization" / "own_w8.md").read_text(encoding="utf-8")
    assert f"| onnx | own_w8 | onnxruntime {ort.__version__} | 0 |" in table
    assert "network.head" in table
    assert (out / "quantization" / "own_w8.svg").read_text().startswith("<?xml")
    assert not (out / ".quantize" / "own_w8").exists()


def test_a_policy_that_cannot_be_kept(
    made: tuple[Path, Path, Path], tmp_path: Path, run_here: Run
) -> None:
    policy = {
        "schema_version": 1,
        "name": "strict",
        "rules": [{"metric": "max_error", "max": 1e-9}],
    }
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump(policy))
    settings = recipe(
        policy=str(tmp_path / "strict.yaml"), min_int8_share=0.5, sensitivity_images=2
    )
    (tmp_path / "custom.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    out = tmp_path / "out"
    weights, export, images = made
    done = run_here(
        *("quantize", export, "--calibration", images, "--evaluation", images, "--out", out),
        *("--recipe", tmp_path / "custom.yaml", "--reference", weights),
    )
    assert done.returncode == 1, done.stderr
    assert "no plan keeps the policy" in done.stderr
    assert list(out.glob("*.onnx")) == []
    assert not (out / "manifest.json").exists()
    record = json.loads((out / "quantization" / "own_w8.json").read_text())
    rungs = record["results"]["onnx"]
    assert len(rungs) > 1
    shares = [rung["int8_share"] for rung in rungs]
    assert shares == sorted(shares, reverse=True)
    assert min(shares) >= 0.5 - 1e-9
    assert all("max_error" in rung["faults"][0] for rung in rungs)
    assert "broken: 1" in (out / "quantization" / "own_w8.md").read_text()


def test_goes_on_where_it_stopped(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    out, steps = tmp_path / "out", []

    class Interrupt(Exception):
        pass

    def stop(name: str) -> None:
        steps.append(name)
        if name == "onnx":
            raise Interrupt

    with pytest.raises(Interrupt):
        run(recipe(), options(made, out), on_start=stop)
    assert not list(out.glob("*.onnx"))
    again: list[str] = []
    run(recipe(), options(made, out), on_start=again.append)
    assert again == ["onnx"]
    assert steps[-1] == "onnx"
    assert len(steps) > 1


def test_a_file_that_is_gone_is_made_again(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"

    class Interrupt(Exception):
        pass

    def stop(_measured: MeasuredFile) -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        run(recipe(), options(made, out), on_done=stop)
    (file,) = out.glob("*.onnx")
    file.unlink()
    again: list[str] = []
    run(recipe(), options(made, out), on_start=again.append)
    assert again == ["onnx"]
    assert file.exists()


def test_what_an_earlier_run_left_is_replaced(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "out" / "lively_64_own_w8.onnx"
    path.mkdir(parents=True)
    (path / "old").touch()  # a directory, as a Core ML package is one
    run(recipe(), options(made, tmp_path / "out"))
    assert path.is_file()


def test_a_recipe_that_leaves_all_in_float(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    record = run(recipe(modes=["float"]), options(made, tmp_path / "out"))
    assert record.failed
    (failure,) = record.failures
    assert failure.reason.startswith("onnx has none of the recipe's int8 forms: float")
    assert list((tmp_path / "out").glob("*.onnx")) == []


def test_other_weights_and_missing_formats(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    save_lively("mobilenetv2", SIZE, tmp_path / "other")
    with pytest.raises(UsageError, match="not the float weights of the export"):
        run(recipe(), options(made, tmp_path / "out", source=str(tmp_path / "other")))
    with pytest.raises(UsageError, match="no fp32 file of tflite"):
        run(recipe(), options(made, tmp_path / "out", formats=("tflite",)))
