"""The ONNX backend: what it writes scores as the plan says, in int8 kernels of ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests.quantize.backends import small
from tests.quantize.backends.small import DENSE, DEPTHWISE, FC1, FC2, FC3, HEAD, STEM

from edgefiqa.convert.exporters import onnx as exporter
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.quantize.backends import onnx as backend
from edgefiqa.quantize.backends.base import LayerExecution
from edgefiqa.quantize.backends.onnx_kernels import optimise, read_executed
from edgefiqa.quantize.plan import Mode, QuantizationPlan
from edgefiqa.runtimes import load, read_metadata

pytestmark = pytest.mark.slow

DYNAMIC = {DEPTHWISE: Mode.WEIGHT}


@pytest.fixture(scope="module")
def scorer() -> ExportScorer:
    return small.scorer_on_grid()


@pytest.fixture(scope="module")
def exported(scorer: ExportScorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    exporter.export(scorer, size=small.SIZE, path=path, metadata=small.metadata())
    return path


def carried(exported: Path, scorer: ExportScorer, plan: QuantizationPlan, out: Path) -> Path:
    model = onnx.load(str(exported))
    backend.carry(model, scorer, plan)
    onnx.save_model(model, str(out / "custom.onnx"))
    return out / "custom.onnx"


def modes(layers: list[LayerExecution]) -> dict[str, Mode]:
    return {layer.name: layer.mode for layer in layers}


@pytest.mark.parametrize(
    ("mode", "exceptions"),
    [(Mode.STATIC, {}), (Mode.STATIC, {DEPTHWISE: Mode.WEIGHT}), (Mode.DYNAMIC, DYNAMIC)],
)
def test_scores_are_those_of_the_plan(
    mode: Mode,
    exceptions: dict[str, Mode],
    scorer: ExportScorer,
    exported: Path,
    tmp_path: Path,
) -> None:
    plan = small.plan_for(scorer, mode, exceptions)
    path = carried(exported, scorer, plan, tmp_path)
    scores = load(path).score(small.images())
    image_as_it_is = {STEM: Mode.STATIC}
    wanted = small.fake_quantized(
        scorer,
        small.plan_for(scorer, mode, exceptions | image_as_it_is),
        outputs=(DEPTHWISE, DENSE),
        linear_axes=(1, 2, 3),
    )
    # Codes that are one off move others in the layers behind.
    drift = small.rms(wanted - small.float_scores(scorer))
    assert small.rms(scores - wanted) < 0.4 * drift
    found = modes(read_executed(path, plan))
    assert found == {planned.layer.name: planned.mode for planned in plan.layers} | image_as_it_is


@pytest.mark.parametrize("mode", [Mode.STATIC, Mode.DYNAMIC])
def test_each_layer_alone_is_exact(
    mode: Mode, scorer: ExportScorer, exported: Path, tmp_path: Path
) -> None:
    for name in (STEM, DEPTHWISE, DENSE, FC1, FC2, FC3):
        if name == DEPTHWISE and mode is Mode.DYNAMIC:
            continue
        plan = small.plan_for(scorer, Mode.FLOAT, {name: mode})
        path = carried(exported, scorer, plan, tmp_path)
        exact = small.plan_for(scorer, Mode.FLOAT, {name: Mode.STATIC if name == STEM else mode})
        wanted = small.fake_quantized(
            scorer, exact, outputs=(DEPTHWISE, DENSE), linear_axes=(1, 2, 3)
        )
        drift = small.rms(wanted - small.float_scores(scorer))
        # What is left is a code more or less where a value lies between two.
        error = small.rms(load(path).score(small.images()) - wanted)
        assert error < max(0.15 * drift, 2e-6), name


def test_weights_only_are_those_of_the_scorer(
    scorer: ExportScorer, exported: Path, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.WEIGHT)
    path = carried(exported, scorer, plan, tmp_path)
    np.testing.assert_allclose(
        load(path).score(small.images()), small.float_scores(scorer), atol=2e-6
    )
    assert set(modes(read_executed(path, plan)).values()) == {Mode.WEIGHT, Mode.FLOAT}
    floats = [node.op_type for node in optimise(path).graph.node]
    assert "DequantizeLinear" not in floats
    assert "Cast" in floats  # of the image
    assert path.stat().st_size < exported.stat().st_size


def test_linear_and_patches_give_float_without_rounding(
    scorer: ExportScorer, exported: Path, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.STATIC)
    nodes = optimise(carried(exported, scorer, plan, tmp_path)).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("QGemm") == 4  # three Linear, and the stem on patches of the image's codes
    assert kinds.count("QLinearConv") == 2
    assert kinds.count("MatMul") + kinds.count("Gemm") + kinds.count("FusedGemm") == 1  # the head
    # norm → fc1, GELU → fc2, ReLU → fc3: the image is codes, and each convolution writes those that
    # the next one reads.
    assert kinds.count("QuantizeLinear") == 3


def test_a_stem_that_overlaps_reads_pixels_exactly(tmp_path: Path) -> None:
    network = small.SmallNetwork()
    network.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
    scorer = ExportScorer(network, torch.nn.Identity(), []).eval()
    with torch.no_grad():
        network.stem.weight /= 64
    small.put_on_grid(scorer, [STEM])
    plan = small.plan_for(scorer, Mode.FLOAT, {STEM: Mode.STATIC})
    built = backend.build(
        scorer, plan, size=small.SIZE, path=tmp_path / "custom.onnx", metadata=small.metadata()
    )
    assert plan[STEM].layer.pixels
    assert modes(built.layers)[STEM] is Mode.STATIC
    kernels = {node.op_type for node in optimise(tmp_path / "custom.onnx").graph.node}
    assert "ConvInteger" in kernels
    assert "QLinearConv" not in kernels
    np.testing.assert_allclose(
        load(tmp_path / "custom.onnx").score(small.images()), small.float_scores(scorer), atol=1e-5
    )


def test_a_float_plan_is_the_plain_export(
    scorer: ExportScorer, exported: Path, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT)
    path = tmp_path / "custom.onnx"
    built = backend.build(scorer, plan, size=small.SIZE, path=path, metadata=small.metadata())
    assert path.read_bytes() == exported.read_bytes()
    assert {layer.mode for layer in built.layers} == {Mode.FLOAT}


def test_build_writes_a_scorer_file(scorer: ExportScorer, tmp_path: Path) -> None:
    plan = small.plan_for(scorer, Mode.STATIC)
    path = tmp_path / "custom.onnx"
    built = backend.build(
        scorer, plan, size=small.SIZE, path=path, metadata=small.metadata("static")
    )
    assert read_metadata(path)["precision"] == "static"
    assert load(path).size == small.SIZE
    assert [layer.name for layer in built.layers] == [planned.layer.name for planned in plan.layers]
    assert [layer.macs for layer in built.layers] == [planned.layer.macs for planned in plan.layers]
    assert not any(layer.reason for layer in built.layers)
    assert built.structure["by_op"]["Gemm"] == 5
    assert "onnxruntime" in built.tools


def test_layers_of_equal_weights_are_told_apart(
    scorer: ExportScorer, exported: Path, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {FC3: Mode.STATIC})
    path = carried(exported, scorer, plan, tmp_path)
    found = modes(read_executed(path, plan))
    assert (found[FC2], found[FC3]) == (Mode.FLOAT, Mode.STATIC)
    wanted = small.fake_quantized(scorer, plan, outputs=())
    other = small.fake_quantized(
        scorer, small.plan_for(scorer, Mode.FLOAT, {FC2: Mode.STATIC}), outputs=()
    )
    errors = np.abs(load(path).score(small.images()) - np.stack([wanted, other])).max(1)
    assert errors[0] < 0.2 * errors[1]


def test_a_file_that_is_not_as_planned_is_told(
    scorer: ExportScorer, exported: Path, tmp_path: Path
) -> None:
    path = carried(exported, scorer, small.plan_for(scorer, Mode.WEIGHT), tmp_path)
    layers = read_executed(path, small.plan_for(scorer, Mode.STATIC))
    layer = next(layer for layer in layers if layer.name == FC1)
    assert layer.mode is Mode.WEIGHT
    assert "float" in layer.reason


@pytest.mark.parametrize(("name", "mode"), [(DEPTHWISE, Mode.DYNAMIC), (HEAD, Mode.STATIC)])
def test_modes_that_onnx_lacks_are_refused(
    name: str, mode: Mode, scorer: ExportScorer, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {name: mode})
    with pytest.raises(UsageError, match=name):
        backend.build(
            scorer, plan, size=small.SIZE, path=tmp_path / "x.onnx", metadata=small.metadata()
        )
    assert not list(tmp_path.iterdir())


def test_a_layer_that_is_not_in_the_file_is_named(scorer: ExportScorer, exported: Path) -> None:
    other = small.scorer_on_grid()
    with torch.no_grad():
        other.get_parameter(f"{FC1}.weight")[0, 0] += 0.01
    plan = small.plan_for(other, Mode.STATIC)
    with pytest.raises(ArtifactError, match=FC1):
        backend.carry(onnx.load(str(exported)), other, plan)
