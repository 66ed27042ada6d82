"""The ExecuTorch backend: what it writes scores as the plan says, in XNNPACK's int8 kernels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.quantize.backends import small
from tests.quantize.backends.small import DENSE, DEPTHWISE, FC1, FC2, FC3, HEAD, STEM
from torch import Tensor, nn

from edgefiqa.convert.exporters import executorch as exporter
from edgefiqa.convert.prepare import ExportScorer, Normalise
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.quantize.backends import executorch as backend
from edgefiqa.quantize.backends.base import Built, LayerExecution
from edgefiqa.quantize.backends.multiplies import match_layers
from edgefiqa.quantize.backends.weight_codes import symmetric_codes, weights_of
from edgefiqa.quantize.backends.xnnpack_graphs import read_multiplies
from edgefiqa.quantize.plan import Layer, Mode, QuantizationPlan, Range
from edgefiqa.runtimes import load, read_metadata

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This API is experimental"),  # its Python runtime, always
]

DYNAMIC = {DEPTHWISE: Mode.FLOAT}


@pytest.fixture(scope="module")
def scorer() -> ExportScorer:
    return small.scorer_on_grid()


def build(scorer: ExportScorer, plan: QuantizationPlan, folder: Path) -> tuple[Path, Built]:
    path = folder / "custom.pte"
    built = backend.build(
        scorer, plan, size=small.SIZE, path=path, metadata=small.metadata("static")
    )
    return path, built


def modes(layers: list[LayerExecution]) -> dict[str, Mode]:
    return {layer.name: layer.mode for layer in layers}


def as_it_is_executed(plan: QuantizationPlan) -> QuantizationPlan:
    """Pixels of 0..255, and codes of the dense convolution that the ReLU behind it keeps."""
    by_name = {planned.layer.name: planned for planned in plan.layers}
    output = by_name[DENSE].output
    assert output is not None
    by_name[STEM] = replace(by_name[STEM], input=Range(low=0, high=255))
    by_name[DENSE] = replace(by_name[DENSE], output=replace(output, low=0))
    return QuantizationPlan(layers=tuple(by_name.values()))


@pytest.mark.parametrize(
    ("mode", "exceptions", "outputs"),
    [
        (Mode.STATIC, {}, (STEM, DEPTHWISE, DENSE, FC1, FC2, FC3)),
        (Mode.DYNAMIC, DYNAMIC, ()),
        (Mode.DYNAMIC, {STEM: Mode.STATIC, DEPTHWISE: Mode.STATIC}, (STEM, DEPTHWISE)),
    ],
)
def test_scores_are_those_of_the_plan(
    mode: Mode,
    exceptions: dict[str, Mode],
    outputs: tuple[str, ...],
    scorer: ExportScorer,
    tmp_path: Path,
) -> None:
    plan = as_it_is_executed(small.plan_for(scorer, mode, exceptions))
    path, built = build(scorer, plan, tmp_path)
    wanted = small.fake_quantized(scorer, plan, outputs=outputs)
    errors = load(path).score(small.images()) - wanted
    drifts = wanted - small.float_scores(scorer)
    # A code more or less where a value lies between two; of a whole image where that is the zero
    # point of a dynamic range, hence the median.
    assert np.median(np.abs(errors)) < 0.25 * np.median(np.abs(drifts))
    assert small.rms(errors) < 0.6 * small.rms(drifts)
    assert modes(built.layers) == {planned.layer.name: planned.mode for planned in plan.layers}
    assert not any(layer.reason for layer in built.layers)


def test_a_dynamic_stem_may_stand_behind_the_normalisation(tmp_path: Path) -> None:
    scorer = ExportScorer(small.SmallNetwork(), Normalise(), []).eval()
    with torch.no_grad():
        stem = scorer.get_submodule(STEM)
        assert isinstance(stem, nn.Conv2d)
        stem.weight *= 64  # pixels of about ±2
    plan = small.plan_for(scorer, Mode.FLOAT, {STEM: Mode.DYNAMIC})
    path, built = build(scorer, plan, tmp_path)
    assert modes(built.layers)[STEM] is Mode.DYNAMIC
    wanted = small.float_scores(scorer)
    assert small.rms(load(path).score(small.images()) - wanted) < 0.05 * wanted.std()


class _Fork(nn.Module):
    """Maps that a depthwise convolution and a sum read, channels-last and not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.stem(pixels / 255)
        tokens = self.norm(self.depthwise(maps).permute(0, 2, 3, 1))
        maps = maps + tokens.permute(0, 3, 1, 2)
        scores: Tensor = self.head(maps.mean((2, 3))).squeeze(1)
        return scores


def test_static_maps_may_have_several_readers(tmp_path: Path) -> None:
    scorer = ExportScorer(_Fork(), nn.Identity(), []).eval()
    plan = small.plan_for(scorer, Mode.FLOAT, {STEM: Mode.STATIC})
    path, built = build(scorer, plan, tmp_path)
    assert modes(built.layers)[STEM] is Mode.STATIC
    np.testing.assert_allclose(
        load(path).score(small.images()), small.float_scores(scorer), atol=0.02
    )


def test_a_float_plan_is_the_plain_export(scorer: ExportScorer, tmp_path: Path) -> None:
    path, built = build(scorer, small.plan_for(scorer, Mode.FLOAT), tmp_path)
    plain = tmp_path / "plain.pte"
    notes = exporter.export(scorer, size=small.SIZE, path=plain, metadata=small.metadata("fp32"))
    assert {layer.mode for layer in built.layers} == {Mode.FLOAT}
    assert not any(layer.reason for layer in built.layers)
    assert built.structure == notes.structure
    assert np.array_equal(load(path).score(small.images()), load(plain).score(small.images()))


def test_the_file_is_a_scorer(scorer: ExportScorer, tmp_path: Path) -> None:
    path, built = build(scorer, small.plan_for(scorer, Mode.DYNAMIC, DYNAMIC), tmp_path)
    assert read_metadata(path)["precision"] == "static"
    assert load(path).size == small.SIZE
    assert "executorch" in built.tools
    assert [layer.macs for layer in built.layers] == [
        planned.layer.macs for planned in small.plan_for(scorer, Mode.FLOAT).layers
    ]


def test_layers_of_equal_weights_are_told_apart(scorer: ExportScorer, tmp_path: Path) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {FC3: Mode.DYNAMIC})
    path, built = build(scorer, plan, tmp_path)
    found = modes(built.layers)
    assert (found[FC2], found[FC3]) == (Mode.FLOAT, Mode.DYNAMIC)
    assert [multiply.mode for multiply in read_multiplies(path)].count(Mode.DYNAMIC) == 1


def test_int8_layers_that_xnnpack_leaves_are_named(
    scorer: ExportScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {DEPTHWISE: Mode.DYNAMIC})

    def every_mode(_layer: Layer) -> tuple[Mode, ...]:
        return tuple(Mode)

    monkeypatch.setattr(backend, "supports", every_mode)
    with pytest.raises(ArtifactError, match=f"not take these.*{DEPTHWISE}"):
        build(scorer, plan, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_as_planned_is_told(scorer: ExportScorer, tmp_path: Path) -> None:
    path, built = build(scorer, small.plan_for(scorer, Mode.FLOAT, {FC1: Mode.DYNAMIC}), tmp_path)
    weights = weights_of(scorer, [layer.name for layer in built.layers])
    expected = weights | {name: symmetric_codes(weights[name])[0] for name in (FC1, FC2)}
    plan = small.plan_for(scorer, Mode.FLOAT, {FC1: Mode.STATIC, FC2: Mode.STATIC})
    layers = {layer.name: layer for layer in match_layers(read_multiplies(path), expected, plan)}
    assert layers[FC2].mode is Mode.FLOAT
    assert "no int8" in layers[FC2].reason
    layer = layers[FC1]
    assert layer.mode is Mode.DYNAMIC
    assert "dynamic" in layer.reason


@pytest.mark.parametrize(
    ("name", "mode"),
    [(DEPTHWISE, Mode.DYNAMIC), (FC1, Mode.WEIGHT), (HEAD, Mode.STATIC)],
)
def test_modes_that_xnnpack_lacks_are_refused(
    name: str, mode: Mode, scorer: ExportScorer, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {name: mode})
    with pytest.raises(UsageError, match=name):
        build(scorer, plan, tmp_path)
    assert not list(tmp_path.iterdir())
