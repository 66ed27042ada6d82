"""The TFLite backend: what it writes scores as the plan says, in int8 kernels of XNNPACK."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.quantize.backends import small
from tests.quantize.backends.small import DENSE, DEPTHWISE, FC1, FC2, FC3, HEAD, STEM
from torch import Tensor, nn

from edgefiqa.convert.exporters import tflite as exporter
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.convert.tflite_file import unpack
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.quantize.backends import tflite as backend
from edgefiqa.quantize.backends.base import LayerExecution
from edgefiqa.quantize.backends.tflite_kernels import read_executed
from edgefiqa.quantize.backends.weight_codes import weights_of
from edgefiqa.quantize.plan import Mode, QuantizationPlan
from edgefiqa.quantize.weights import on_grid
from edgefiqa.runtimes import load, read_metadata

pytestmark = pytest.mark.slow

ALL = (STEM, DEPTHWISE, DENSE, FC1, FC2, FC3)


@pytest.fixture(scope="module")
def scorer() -> ExportScorer:
    return backend.variant(small.scorer_on_grid())


@pytest.fixture(scope="module")
def converted(scorer: ExportScorer) -> bytes:
    return exporter.convert(scorer, size=small.SIZE)[0]


def carried(converted: bytes, scorer: ExportScorer, plan: QuantizationPlan, out: Path) -> Path:
    content, _ = exporter.finish(backend.carry(converted, scorer, plan), small.metadata(), [])
    (out / "custom.tflite").write_bytes(content)
    return out / "custom.tflite"


def modes(layers: list[LayerExecution]) -> dict[str, Mode]:
    return {layer.name: layer.mode for layer in layers}


@pytest.mark.parametrize(
    ("mode", "exceptions"),
    [
        (Mode.STATIC, {}),
        (Mode.DYNAMIC, {DEPTHWISE: Mode.WEIGHT}),
        (Mode.DYNAMIC, {DEPTHWISE: Mode.STATIC}),
    ],
)
def test_scores_are_those_of_the_plan(
    mode: Mode,
    exceptions: dict[str, Mode],
    scorer: ExportScorer,
    converted: bytes,
    tmp_path: Path,
) -> None:
    plan = small.plan_for(scorer, mode, exceptions)
    path = carried(converted, scorer, plan, tmp_path)
    scores = load(path).score(small.images())
    wanted = small.fake_quantized(scorer, plan, outputs=ALL)
    # Codes that are one off move others in the layers behind.
    drift = small.rms(wanted - small.float_scores(scorer))
    assert small.rms(scores - wanted) < 0.6 * drift
    layers, delegation = read_executed(path, plan)
    assert modes(layers) == {planned.layer.name: planned.mode for planned in plan.layers}
    assert delegation == {"xnnpack_partitions": 1, "int8_layers_outside_xnnpack": []}


@pytest.mark.parametrize("mode", [Mode.STATIC, Mode.DYNAMIC])
def test_each_layer_alone_is_exact(
    mode: Mode, scorer: ExportScorer, converted: bytes, tmp_path: Path
) -> None:
    for name in ALL:
        if name == DEPTHWISE and mode is Mode.DYNAMIC:
            continue
        plan = small.plan_for(scorer, Mode.FLOAT, {name: mode})
        path = carried(converted, scorer, plan, tmp_path)
        wanted = small.fake_quantized(scorer, plan, outputs=ALL)
        drift = small.rms(wanted - small.float_scores(scorer))
        # What is left is a code more or less where a value lies between two; pixels often do.
        bound = 0.4 if name == STEM and mode is Mode.DYNAMIC else 0.15
        error = small.rms(load(path).score(small.images()) - wanted)
        assert error < bound * drift, name


def test_weights_only_are_those_of_the_scorer(
    scorer: ExportScorer, converted: bytes, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.WEIGHT)
    path = carried(converted, scorer, plan, tmp_path)
    np.testing.assert_allclose(
        load(path).score(small.images()), small.float_scores(scorer), atol=2e-6
    )
    assert set(modes(read_executed(path, plan)[0]).values()) == {Mode.WEIGHT, Mode.FLOAT}


def test_codes_and_scales_are_those_of_the_grid(
    scorer: ExportScorer, converted: bytes, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.DYNAMIC, {DEPTHWISE: Mode.STATIC})
    model = unpack(carried(converted, scorer, plan, tmp_path).read_bytes())
    tensors = {entry.name.decode(): entry for entry in model.subgraphs[0].tensors}
    weights = weights_of(scorer, ALL)
    assert set(weights) == set(ALL)
    for name, weight in weights.items():
        tensor = tensors[f"{name}.weight.codes"]
        codes = np.asarray(model.buffers[tensor.buffer].data).view(np.int8).reshape(tensor.shape)
        scales = tensor.quantization.scale
        if codes.ndim == 2:
            restored = codes * scales[:, None]
        elif name == DEPTHWISE:  # [1, h, w, C]
            restored = (codes * scales).transpose(3, 0, 1, 2)
        else:  # [out, h, w, in]
            restored = (codes * scales[:, None, None, None]).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(restored, weight, rtol=1e-6, atol=1e-12)


def test_a_float_plan_is_the_plain_export(scorer: ExportScorer, tmp_path: Path) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT)
    packed, plain = tmp_path / "custom.tflite", tmp_path / "float.tflite"
    metadata = small.metadata()
    built = backend.build(scorer, plan, size=small.SIZE, path=packed, metadata=metadata)
    exporter.export(scorer, size=small.SIZE, path=plain, metadata=metadata)
    assert packed.read_bytes() == plain.read_bytes()
    assert {layer.mode for layer in built.layers} == {Mode.FLOAT}


def test_build_writes_a_scorer_file(scorer: ExportScorer, tmp_path: Path) -> None:
    plan = small.plan_for(scorer, Mode.STATIC)
    path = tmp_path / "custom.tflite"
    built = backend.build(
        scorer, plan, size=small.SIZE, path=path, metadata=small.metadata("static")
    )
    assert read_metadata(path)["precision"] == "static"
    assert load(path).size == small.SIZE
    assert [layer.name for layer in built.layers] == [planned.layer.name for planned in plan.layers]
    assert not any(layer.reason for layer in built.layers)
    # One for the image, then one each for norm → fc1, GELU → fc2, ReLU → fc3: each convolution
    # writes the codes that the next one reads.
    assert built.structure["by_op"]["QUANTIZE"] == 4
    assert built.tools["litert-torch"]


def test_layers_of_equal_weights_are_told_apart(
    scorer: ExportScorer, converted: bytes, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {FC3: Mode.STATIC})
    path = carried(converted, scorer, plan, tmp_path)
    found = modes(read_executed(path, plan)[0])
    assert (found[FC2], found[FC3]) == (Mode.FLOAT, Mode.STATIC)


class Gate(nn.Module):
    """A hard sigmoid behind a convolution: the converter puts its sum into the bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 1)
        with torch.no_grad():
            self.gate.weight.copy_(on_grid(self.gate.weight / 64))

    def forward(self, maps: Tensor) -> Tensor:
        gated = nn.functional.hardsigmoid(self.gate(maps)).mean((2, 3))
        scores: Tensor = self.head(gated).squeeze(1)
        return scores


def test_a_bias_that_the_converter_adds_to_moves_the_range(tmp_path: Path) -> None:
    scorer = ExportScorer(Gate(), nn.Identity(), []).eval()
    plan = small.plan_for(scorer, Mode.STATIC)
    path = tmp_path / "custom.tflite"
    backend.build(scorer, plan, size=small.SIZE, path=path, metadata=small.metadata())
    # Without the shift, codes would end at the largest value that the layer has without the 3.
    np.testing.assert_allclose(
        load(path).score(small.images()), small.float_scores(scorer), atol=2e-3
    )


def test_an_int8_layer_outside_xnnpack_is_told(
    scorer: ExportScorer, converted: bytes, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.DYNAMIC)  # a dynamic depthwise kernel exists in TFLite only
    layers, delegation = read_executed(carried(converted, scorer, plan, tmp_path), plan)
    assert modes(layers)[DEPTHWISE] is Mode.DYNAMIC
    assert delegation["int8_layers_outside_xnnpack"] == [DEPTHWISE]


@pytest.mark.parametrize(("name", "mode"), [(DEPTHWISE, Mode.DYNAMIC), (HEAD, Mode.STATIC)])
def test_modes_that_tflite_lacks_are_refused(
    name: str, mode: Mode, scorer: ExportScorer, tmp_path: Path
) -> None:
    plan = small.plan_for(scorer, Mode.FLOAT, {name: mode})
    with pytest.raises(UsageError, match=name):
        backend.build(
            scorer, plan, size=small.SIZE, path=tmp_path / "x.tflite", metadata=small.metadata()
        )
    assert not list(tmp_path.iterdir())


def test_a_layer_that_is_not_in_the_file_is_named(scorer: ExportScorer, converted: bytes) -> None:
    other = small.scorer_on_grid()
    with torch.no_grad():
        other.get_parameter(f"{FC1}.weight")[0, 0] += 0.01
    with pytest.raises(ArtifactError, match=FC1):
        backend.carry(converted, other, small.plan_for(other, Mode.STATIC))
