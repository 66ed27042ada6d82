"""The Core ML backend: what it writes scores as the plan says, in the reference evaluator."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.quantize.backends import small
from tests.quantize.backends.small import DEPTHWISE, FC1, FC2, FC3, HEAD, STEM

from edgefiqa.convert.exporters import coreml as exporter
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.quantize.backends import coreml as backend
from edgefiqa.quantize.backends.base import Built, LayerExecution
from edgefiqa.quantize.backends.mil_operands import read_multiplies
from edgefiqa.quantize.backends.multiplies import match_layers
from edgefiqa.quantize.backends.weight_codes import symmetric_codes, weights_of
from edgefiqa.quantize.plan import Mode, QuantizationPlan, Range
from edgefiqa.runtimes import load, read_metadata
from edgefiqa.runtimes.imports import import_coremltools
from edgefiqa.runtimes.mil import MilModel
from edgefiqa.runtimes.mil.package import open_package

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scorer() -> ExportScorer:
    return small.scorer_on_grid()


def build(scorer: ExportScorer, plan: QuantizationPlan, folder: Path) -> tuple[Path, Built]:
    path = folder / "custom.mlpackage"
    built = backend.build(
        scorer, plan, size=small.SIZE, path=path, metadata=small.metadata("static")
    )
    return path, built


def modes(layers: list[LayerExecution]) -> dict[str, Mode]:
    return {layer.name: layer.mode for layer in layers}


def in_float16(
    scorer: ExportScorer, plan: QuantizationPlan
) -> tuple[ExportScorer, QuantizationPlan]:
    """Make every constant of the file one that float16 holds, so that codes can be compared."""
    changed = copy.deepcopy(scorer)
    with torch.no_grad():
        for parameter in changed.parameters():
            if parameter.dim() == 1 or len(parameter) == 1:
                parameter.copy_(parameter.half().float())
                continue
            rows = parameter.flatten(1)
            scale = (rows.abs().amax(1, keepdim=True) / 127).half().float().clamp_min(1e-6)
            parameter.copy_((torch.round(rows / scale) * scale).view_as(parameter))
    layers = tuple(
        replace(layer, input=_range_in_float16(layer.layer.name, layer.input))
        for layer in plan.layers
    )
    return changed, QuantizationPlan(layers=layers)


def _range_in_float16(name: str, values: Range | None) -> Range:
    assert values is not None
    if name == STEM:
        return Range(low=0, high=255)  # pixels
    scale = float(np.float16((values.high - values.low) / 255))
    zero = round(-values.low / scale)
    return Range(low=-zero * scale, high=(255 - zero) * scale)


@pytest.mark.parametrize("exceptions", [{}, {DEPTHWISE: Mode.WEIGHT, FC3: Mode.FLOAT}])
def test_scores_are_those_of_the_plan(
    exceptions: dict[str, Mode], scorer: ExportScorer, tmp_path: Path
) -> None:
    exact, plan = in_float16(scorer, small.plan_for(scorer, Mode.STATIC, exceptions))
    path, built = build(exact, plan, tmp_path)
    wanted = small.fake_quantized(exact, plan, outputs=())
    model = MilModel.load(path, mode="fp32")
    scores = [
        float(model.predict({"image": Image.fromarray(image)})["score"].item())
        for image in small.images()
    ]
    drift = small.rms(wanted - small.float_scores(exact))
    # A code more or less where a value lies between two; the file's float16 rounds more than that.
    assert small.rms(scores - wanted) < 0.1 * drift
    np.testing.assert_allclose(load(path).score(small.images()), wanted, atol=5e-3)
    assert modes(built.layers) == {planned.layer.name: planned.mode for planned in plan.layers}
    assert not any(layer.reason for layer in built.layers)
    assert built.structure["deployment_target"] == "iOS17"


def test_dynamic_ranges_are_shares_of_the_largest_magnitude(
    scorer: ExportScorer, tmp_path: Path
) -> None:
    share = Range(low=-2.0, high=127 / 64)  # a step that float16 holds
    exact, dynamic = in_float16(scorer, small.plan_for(scorer, Mode.DYNAMIC, {STEM: Mode.STATIC}))
    plan = QuantizationPlan(
        layers=tuple(replace(layer, relative=share) for layer in dynamic.layers)
    )
    path, built = build(exact, plan, tmp_path)
    assert modes(built.layers) == {planned.layer.name: planned.mode for planned in plan.layers}
    assert not any(layer.reason for layer in built.layers)
    assert built.structure["deployment_target"] == "iOS17"

    def read(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
        peak = given[0].abs().amax()
        return small.rounded(given[0] / peak, share.low, share.high) * peak

    rounded = copy.deepcopy(exact)
    for name in plan.in_mode(Mode.DYNAMIC):
        rounded.get_submodule(name).register_forward_pre_hook(read)
    wanted = small.float_scores(rounded)
    drift = small.rms(wanted - small.float_scores(exact))
    model = MilModel.load(path, mode="fp32")
    scores = [
        float(model.predict({"image": Image.fromarray(image)})["score"].item())
        for image in small.images()
    ]
    assert small.rms(scores - wanted) < 0.1 * drift
    np.testing.assert_allclose(load(path).score(small.images()), wanted, atol=5e-3)


def test_weights_only_run_on_ios_16(scorer: ExportScorer, tmp_path: Path) -> None:
    plan = small.plan_for(scorer, Mode.WEIGHT)
    path, built = build(scorer, plan, tmp_path)
    floats = small.float_scores(scorer)
    np.testing.assert_allclose(load(path).score(small.images()), floats, atol=5e-3)
    assert set(modes(built.layers).values()) == {Mode.WEIGHT, Mode.FLOAT}
    assert built.structure["deployment_target"] == "iOS16"
    assert open_package(path).opset == "CoreML6"
    # Six layers, but the two of equal weights share a constant.
    assert built.structure["by_op"]["constexpr_affine_dequantize"] == 5


def test_a_float_plan_is_the_plain_export(scorer: ExportScorer, tmp_path: Path) -> None:
    path, built = build(scorer, small.plan_for(scorer, Mode.FLOAT), tmp_path)
    plain = tmp_path / "plain.mlpackage"
    exporter.export(scorer, size=small.SIZE, path=plain, metadata=small.metadata("fp16"))
    assert {layer.mode for layer in built.layers} == {Mode.FLOAT}
    assert not any(layer.reason for layer in built.layers)
    weights = [next(package.rglob("weight.bin")).read_bytes() for package in (path, plain)]
    assert weights[0] == weights[1]
    assert np.array_equal(load(path).score(small.images()), load(plain).score(small.images()))


def test_the_file_is_a_scorer(scorer: ExportScorer, tmp_path: Path) -> None:
    path, built = build(scorer, small.plan_for(scorer, Mode.STATIC), tmp_path)
    assert read_metadata(path)["precision"] == "static"
    assert load(path).size == small.SIZE
    assert "coremltools" in built.tools
    assert not list(path.rglob("executorch*"))


def test_scales_keep_their_digits_in_float16(scorer: ExportScorer, tmp_path: Path) -> None:
    fine = small.scorer_on_grid()
    with torch.no_grad():  # a stem that takes pixels of 0..255, in power-of-two steps: exact
        stem = fine.get_submodule(STEM)
        assert isinstance(stem.weight, torch.Tensor)
        stem.weight /= 64
    plan = small.plan_for(fine, Mode.FLOAT, {STEM: Mode.STATIC})
    path, _ = build(fine, plan, tmp_path)
    operations = open_package(path).function.operations
    scales = [
        np.asarray(operation.scale.val, np.float64).min()
        for operation in operations
        if operation.op_type in ("constexpr_affine_dequantize", "dequantize")
    ]
    assert len(scales) == 2
    assert min(scales) >= 2.0**-14
    wanted = small.fake_quantized(fine, plan, outputs=())
    np.testing.assert_allclose(load(path).score(small.images()), wanted, atol=2e-3)


def test_layers_of_equal_weights_are_told_apart(scorer: ExportScorer, tmp_path: Path) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {FC3: Mode.STATIC})
    path, built = build(scorer, plan, tmp_path)
    found = modes(built.layers)
    assert (found[FC2], found[FC3]) == (Mode.FLOAT, Mode.STATIC)
    assert [multiply.mode for multiply in read_multiplies(path)].count(Mode.STATIC) == 1


def test_a_file_that_is_not_as_planned_is_told(scorer: ExportScorer, tmp_path: Path) -> None:
    path, built = build(scorer, small.plan_for(scorer, Mode.WEIGHT), tmp_path)
    names = [layer.name for layer in built.layers]
    codes = {k: symmetric_codes(v)[0] for k, v in weights_of(scorer, names).items()}
    layers = match_layers(read_multiplies(path), codes, small.plan_for(scorer, Mode.STATIC))
    layer = next(layer for layer in layers if layer.name == FC1)
    assert layer.mode is Mode.WEIGHT
    assert "weight" in layer.reason


@pytest.mark.parametrize(("name", "mode"), [(HEAD, Mode.DYNAMIC), (HEAD, Mode.STATIC)])
def test_modes_that_core_ml_lacks_are_refused(
    name: str, mode: Mode, scorer: ExportScorer, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {name: mode})
    with pytest.raises(UsageError, match=name):
        build(scorer, plan, tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_deployment_target_is_refused(
    scorer: ExportScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ct = import_coremltools()
    convert = ct.convert
    newer = {"minimum_deployment_target": ct.target.iOS18}
    monkeypatch.setattr(
        ct, "convert", lambda *arguments, **named: convert(*arguments, **(named | newer))
    )
    with pytest.raises(ArtifactError, match="iOS16"):
        build(scorer, small.plan_for(scorer, Mode.WEIGHT), tmp_path)
    assert not list(tmp_path.iterdir())
