"""Faults planted in real exports: the gate closes, and the tables say where it went wrong."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.benchmarks.drift import planted
from typer.testing import CliRunner, Result

import edgefiqa
from edgefiqa.benchmarks.drift.layer_outputs import (
    LayerOutput,
    onnx_layers,
    tflite_layers,
    torch_layers,
)
from edgefiqa.benchmarks.drift.layers import USUAL_SNR_DB, compare_layers, first_wrong
from edgefiqa.cli import app
from edgefiqa.convert.prepare import prepare_scorer
from edgefiqa.convert.run import run as convert
from edgefiqa.convert.targets import parse_targets
from edgefiqa.files import sha256_of
from edgefiqa.manifest import Manifest, precision_kind
from edgefiqa.measuring.policy import load_policy
from edgefiqa.measuring.run_directory import load_run
from edgefiqa.models import load_model
from edgefiqa.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from edgefiqa.preprocess import resize_and_crop

pytestmark = pytest.mark.slow

SIZE, WIDTH, COUNT = 96, 144, 24
WEIGHTS = Path(edgefiqa.__file__).parent / "weights"
RECIPE = {
    "name": "own_w8",
    "modes": ["static", "dynamic", "weight", "float"],
    "golden_tolerance": 1,
}
NAMES = {
    "onnx": f"default-student_{SIZE}_fp32.onnx",
    "tflite": f"default-student_{SIZE}_fp32.tflite",
    "int8.onnx": f"default-student_{SIZE}_own_w8.onnx",
    "int8.tflite": f"default-student_{SIZE}_own_w8.tflite",
}
MEAN, STD = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
STEM = "network.backbone.stem.0"
BLOCK = "network.backbone.stages.0.blocks.1"
LATER = [*range(1, SIZE), SIZE - 1]
FASTEST = ("--runtime", "onnxruntime", "--runtime", "litert")


@dataclass(frozen=True, kw_only=True)
class Made:
    """An export without faults, its records, and what its layers should give.

    Attributes:
        export: fp32 and INT8, ONNX and TFLite.
        photos: Photographs; their short side is the network's, so that decoding changes nothing.
        run: Records of drift on them.
        images: uint8 ``[4, S, S, 3]`` of the photographs.
        layers: What the float network's modules return for them.
    """

    export: Path
    photos: Path
    run: Path
    images: np.ndarray
    layers: list[LayerOutput]


def _photos(folder: Path, seed: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    dimmed = np.linspace(0.2, 1, COUNT)[:, None, None, None]
    small = (dimmed * rng.integers(0, 256, (COUNT, 6, 9, 3))).astype(np.uint8)
    for row, image in enumerate(small):
        picture = Image.fromarray(image).resize((WIDTH, SIZE), Image.Resampling.BICUBIC)
        picture.save(folder / f"{row:02d}.png")
    return folder


def _squares(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.name: resize_and_crop(Image.open(path), SIZE) for path in sorted(folder.glob("*.png"))
    }


def _cli(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _drift(export: Path, images: Path, run: Path, *more: str) -> Result:
    return _cli("drift", export, "--images", images, "--out", run, "--resamples", "20", *more)


def _make(folder: Path) -> Made:
    photos, calibration = _photos(folder / "photos", 0), _photos(folder / "calibration", 1)
    export, recipe = folder / "export", folder / "custom.yaml"
    convert("default", parse_targets("onnx,tflite"), out=export, size=SIZE)
    recipe.write_text(yaml.safe_dump(RECIPE))
    where = ("--calibration", calibration, "--evaluation", photos, "--recipe", recipe)
    done = _cli("quantize", export, *where)
    assert done.exit_code == 0, done.output
    done = _drift(export, photos, folder / "run", *FASTEST)
    assert done.exit_code == 0, done.output
    images = np.stack(list(_squares(photos).values()))[:: COUNT // 4]
    layers = torch_layers(WEIGHTS, images)
    return Made(export=export, photos=photos, run=folder / "run", images=images, layers=layers)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _make(tmp_path_factory.mktemp("faults"))


def _publish(export: Path, name: str) -> None:
    """Let the manifest name a file's present bytes, as if the exporter had written them."""
    manifest = Manifest.load(export)
    artifacts = [
        artifact.model_copy(update={"sha256": sha256_of(export / name)})
        if artifact.file == name
        else artifact
        for artifact in manifest.artifacts
    ]
    manifest.model_copy(update={"artifacts": artifacts}).save(export)


def _copy(made: Made, folder: Path) -> tuple[Path, Path]:
    """Copy the export, to be spoiled, and the records, of which the other files' are kept."""
    shutil.copytree(made.export, folder / "export")
    shutil.copytree(made.run, folder / "run")
    return folder / "export", folder / "run"


def _policy(run: Path, name: str) -> str | Path:
    """Return the shipped policy; for INT8 with a rank bound for few pictures that score alike."""
    if "fp32" in name:
        return "float"
    policy = load_policy("quantised_unlabelled")
    rules = [
        rule.model_copy(update={"min": 0.995}) if rule.metric == "srcc_reference" else rule
        for rule in policy.rules
    ]
    path = run.parent / "policy.yaml"
    content = policy.model_copy(update={"rules": tuple(rules)}).model_dump(mode="json")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _failed(run: Path, name: str, *more: str | Path, policy: str = "") -> list[str]:
    """Return the gate's lines about a file that fail; exit code and lines must agree."""
    result = _cli("gate", run, "--policy", policy or _policy(run, name), *more)
    lines = result.output.splitlines()
    failed = [line for line in lines if line.startswith("FAIL")]
    assert result.exit_code == bool(failed), result.output
    assert any(name in line for line in lines if line.startswith(("PASS", "FAIL")))
    return [line for line in failed if name in line]


def _worst_stage(run: Path, name: str, runtime: str) -> str:
    """Return the stage that changed the scores most on the way to a file, as the table has it."""
    (record,) = (
        waterfall
        for waterfall in load_run(run).waterfalls
        if waterfall.total.after.file == name and waterfall.total.after.runtime == runtime
    )
    return max(record.steps, key=lambda step: step.mean_error).stage


def _first_wrong(made: Made, path: Path) -> str | None:
    read = onnx_layers if path.suffix == ".onnx" else tflite_layers
    quantised = "w8" in path.name
    found = read(path, made.images)
    rows = list(compare_layers(made.layers, found, by_tensor=False, free_scales=quantised))
    assert len(rows) > 20
    return first_wrong(rows, USUAL_SNR_DB[precision_kind("w8" if quantised else "fp32")])


@pytest.mark.parametrize("kind", NAMES)
def test_the_unspoiled_files_pass(kind: str, made: Made) -> None:
    name = NAMES[kind]
    assert _failed(made.run, name) == []
    assert _failed(made.run, name, "--export", made.export) == []
    assert _first_wrong(made, made.export / name) is None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, and what must be said of it.

    Attributes:
        kind: Of the file, a key of ``NAMES``.
        plant: Spoils the file.
        rule: Part of the text of a rule that must fail.
        stage: Where the waterfall must see it.
        layer: The first that is wrong.
    """

    kind: str
    plant: Callable[[Path], None]
    rule: str
    stage: str
    layer: str


def _normalise_otherwise(path: Path, mean: np.ndarray, std: np.ndarray) -> None:
    """Fold another mean and standard deviation into the first convolution."""
    network, _ = load_model("default")
    stem = prepare_scorer(network, SIZE).get_submodule(STEM)
    assert isinstance(stem, torch.nn.Conv2d)
    assert stem.bias is not None
    weight, bias = (parameter.detach().double().numpy() for parameter in (stem.weight, stem.bias))
    trained = weight * STD[:, None, None]
    wrong = trained / std[:, None, None]
    shift = 255 * ((weight * MEAN[:, None, None]) - (wrong * mean[:, None, None])).sum((1, 2, 3))
    if path.suffix == ".tflite":
        weight, wrong = (kernel.transpose(0, 2, 3, 1) for kernel in (weight, wrong))
    planted.replace_constants(path, weight, wrong)
    planted.replace_constants(path, bias, bias + shift)


DEPTHWISE, FC1, FC2 = (f"{BLOCK}.{name}" for name in ("conv_dw", "mlp.fc1", "mlp.fc2"))
FC1_IN_TFLITE = r".*EdgeNeXtStage_0/[^;]*ConvBlock_1/[^;]*Linear_fc1;2"
FAULTS = {
    "mean in ONNX": Fault(
        kind="onnx",
        plant=lambda path: _normalise_otherwise(path, np.full(3, 0.5), STD),
        rule="max_error",
        stage="conversion",
        layer=STEM,
    ),
    "std in TFLite": Fault(
        kind="tflite",
        plant=lambda path: _normalise_otherwise(path, MEAN, np.full(3, 0.5)),
        rule="max_error",
        stage="conversion",
        layer=STEM,
    ),
    "BGR in ONNX": Fault(
        kind="onnx",
        plant=lambda path: planted.gather_image(path, {3: [2, 1, 0]}),
        rule="srcc_reference",
        stage="conversion",
        layer=STEM,
    ),
    "crop in ONNX": Fault(
        kind="onnx",
        plant=lambda path: planted.gather_image(path, {1: LATER, 2: LATER}),
        rule="max_error",
        stage="conversion",
        layer=STEM,
    ),
    "a layer of ONNX": Fault(
        kind="onnx",
        plant=lambda path: planted.perturb_onnx(path, f"{DEPTHWISE}.weight", 0.2),
        rule="max_error",
        stage="conversion",
        layer=DEPTHWISE,
    ),
    "a layer of TFLite": Fault(
        kind="tflite",
        plant=lambda path: planted.perturb_tflite(path, FC1_IN_TFLITE, 0.2),
        rule="max_error",
        stage="conversion",
        layer=FC1,
    ),
    "other weights": Fault(
        kind="onnx",
        plant=lambda path: planted.perturb_onnx(path, r".*\.weight", 0.5),
        rule="srcc_reference",
        stage="conversion",
        layer=STEM,
    ),
    "activation zero point in ONNX": Fault(
        kind="int8.onnx",
        plant=lambda path: planted.shift_zero_point(path, FC2, 4),
        rule="bias",
        stage="int8",
        layer=FC2,
    ),
    "weight zero point in TFLite": Fault(
        kind="int8.tflite",
        plant=lambda path: planted.shift_codes(path, f"{FC2}.weight.codes", 6),
        rule="p99_error",
        stage="int8",
        layer=FC2,
    ),
    "a layer of INT8 ONNX": Fault(
        kind="int8.onnx",
        plant=lambda path: planted.perturb_onnx(path, f"{FC1}.weight.codes", 0.4),
        rule="srcc_reference",
        stage="int8",
        layer=FC1,
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_planted_fault_is_caught_and_located(fault: Fault, made: Made, tmp_path: Path) -> None:
    export, run = _copy(made, tmp_path)
    name = NAMES[fault.kind]
    fault.plant(export / name)
    _publish(export, name)
    assert _drift(export, made.photos, run, *FASTEST).exit_code == 0
    failed = _failed(run, name)
    assert any(fault.rule in line for line in failed), failed
    runtime = "onnxruntime" if name.endswith(".onnx") else "litert"
    assert _worst_stage(run, name, runtime) == fault.stage
    assert _first_wrong(made, export / name) == fault.layer


def test_the_layers_command_names_the_layer(made: Made, tmp_path: Path) -> None:
    export, _ = _copy(made, tmp_path)
    options = ("--images", made.photos)
    assert _cli("layers", export, NAMES["onnx"], *options).exit_code == 0
    planted.perturb_onnx(export / NAMES["onnx"], f"{DEPTHWISE}.weight", 0.2)
    _publish(export, NAMES["onnx"])
    result = _cli("layers", export, NAMES["onnx"], *options)
    assert result.exit_code == 1
    assert f"the first layer below 60 dB: {DEPTHWISE}" in result.output
    assert f"| {DEPTHWISE} **← first wrong** | Conv |" in result.output


@pytest.mark.parametrize(
    ("spoil", "is_wrong"),
    [
        (lambda square, _: square, False),
        (lambda _, photo: photo[:, (WIDTH - SIZE) // 2 + 1 :][:, :SIZE], True),
        (lambda square, _: square[..., ::-1], True),
    ],
    ids=["as the reference", "crop", "BGR"],
)
def test_a_device_that_decodes_otherwise(
    spoil: Callable[[np.ndarray, np.ndarray], np.ndarray],
    is_wrong: bool,
    made: Made,
    tmp_path: Path,
) -> None:
    """The files agree with the reference on the device's pixels; the pixels are what is wrong."""
    pixels, run = tmp_path / "pixels", tmp_path / "run"
    pixels.mkdir()
    for name, square in _squares(made.photos).items():
        photo = np.asarray(Image.open(made.photos / name))
        Image.fromarray(np.ascontiguousarray(spoil(square, photo))).save(pixels / name)
    export, name = tmp_path / "export", NAMES["onnx"]
    shutil.copytree(made.export, export)
    manifest = Manifest.load(export)
    kept = [artifact for artifact in manifest.artifacts if artifact.file == name]
    manifest.model_copy(update={"artifacts": kept}).save(export)
    assert _drift(export, pixels, run).exit_code == 0
    assert _failed(run, name) == []
    (unseen, *_) = _cli("gate", run, "--policy", "pixels").output.splitlines()
    assert "does not measure decode/resize" in unseen
    result = _cli("waterfall", run, "--origin", made.run)
    assert result.exit_code == 0
    failed = _failed(run, name, policy="pixels")
    assert bool(failed) is is_wrong, failed
    if is_wrong:
        assert "mean_error of decode/resize" in failed[0]
        assert _worst_stage(run, name, "onnxruntime") == "decode/resize"
        assert result.output.index("| decode/resize |") < result.output.index("| conversion |")


def test_a_stale_file_is_not_measured(made: Made, tmp_path: Path) -> None:
    export, run = _copy(made, tmp_path)
    name = NAMES["tflite"]
    shutil.copy(made.export / NAMES["int8.tflite"], export / name)
    failed = _failed(run, name, "--export", export)  # replaced after it was measured
    assert len(failed) == 1
    assert "the measured bytes are the ones in the export" in failed[0]
    result = _drift(export, made.photos, run, *FASTEST)  # replaced before
    assert result.exit_code == 1
    assert "not the file of the manifest" in " ".join(result.output.split())
    failed = _failed(run, name)
    assert len(failed) == 3
    assert all("not measured" in line for line in failed)
