"""Per-layer numerics: the layer that was tampered with is the first that goes wrong."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.records import executed
from tests.tiny_onnx import SIDE, STD, write_tiny

from edgefiqa.benchmarks.drift.layer_outputs import (
    LayerOutput,
    _fold_batch_norms,
    _last_of_modules,
    _onnx_modules,
    _tflite_module,
    dequantised,
    onnx_layers,
    tflite_layers,
)
from edgefiqa.benchmarks.drift.layers import (
    compare_layers,
    first_wrong,
    layers_table,
    measure_layers,
)
from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.errors import ArtifactError, UsageError
from edgefiqa.files import sha256_of
from edgefiqa.measuring.records import LayersRecord
from edgefiqa.measuring.run_directory import load_run, save_record
from edgefiqa.runtimes.imports import import_tensorflow

Values = NDArray[np.float32]


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def _output(name: str, values: Values, module: str = "") -> LayerOutput:
    return LayerOutput(tensor=name, module=module, op="Conv", values=values)


@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ({}, None),
        ({"std": 1.5 * STD}, "scaled"),
        ({"zero_point": 20}, "convolved"),
        ({"perturbed": 0.5}, "product"),
    ],
)
def test_the_layer_that_was_tampered_with_is_named(
    fault: dict[str, object], layer: str | None, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    good = onnx_layers(write_tiny(tmp_path / "good.onnx"), pixels)
    bad = onnx_layers(write_tiny(tmp_path / "bad.onnx", **fault), pixels)  # type: ignore[arg-type]
    rows = list(compare_layers(good, bad, by_tensor=True))
    assert rows[0].name == "float"
    assert first_wrong(rows, 60) == layer


def test_snr_and_cosine_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5)).astype(np.float32)
    y = x + 0.1 * rng.normal(size=(2, 5)).astype(np.float32)
    (row,) = compare_layers([_output("a", x)], [_output("a", y)], by_tensor=True)
    expected = 10 * np.log10((x.astype(float) ** 2).sum() / ((y.astype(float) - x) ** 2).sum())
    assert row.snr_db == pytest.approx(expected)
    assert row.cosine == pytest.approx((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
    (same,) = compare_layers([_output("a", x)], [_output("a", x)], by_tensor=True)
    assert same.snr_db is None
    assert same.cosine == pytest.approx(1)
    assert first_wrong([same], 60) is None
    (broken,) = compare_layers([_output("a", x)], [_output("a", x * np.nan)], by_tensor=True)
    assert first_wrong([broken], 20) == "a"


@pytest.mark.parametrize("shape", [(2, 1, 4, 5, 3), (2, 20, 3), (2, 3, 4, 5), (2, 60)])
def test_layouts_are_brought_together(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)  # N C H W
    found = x if shape[1] == 3 else x.transpose(0, 2, 3, 1)
    rows = compare_layers(
        [_output("a", x, "m")], [_output("b", found.reshape(shape), "m")], by_tensor=False
    )
    assert next(rows).snr_db is None  # no error at all


@pytest.mark.parametrize("is_tokens", [False, True])
def test_channels_may_be_scaled_where_the_file_is_quantised(is_tokens: bool) -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 6, 5, 3)).astype(np.float32)  # N C H W
    factors = rng.uniform(0.1, 9, (6, 1, 1)).astype(np.float32)
    noise = 0.01 * rng.normal(size=maps.shape).astype(np.float32)
    x, y = maps, (maps + noise) * factors
    if is_tokens:
        x, y = (array.transpose(0, 2, 3, 1) for array in (x, y))
    else:
        y = y.transpose(0, 2, 3, 1)
    reference, found = [_output("a", x, "m")], [_output("b", y, "m")]
    (strict,) = compare_layers(reference, found, by_tensor=False)
    (free,) = compare_layers(reference, found, by_tensor=False, free_scales=True)
    assert strict.snr_db is not None
    assert free.snr_db is not None
    assert strict.snr_db < 10
    assert free.snr_db == pytest.approx(40, abs=4)  # uneven factors weigh the channels
    (shifted,) = compare_layers(
        reference, [_output("b", y + 3, "m")], by_tensor=False, free_scales=True
    )
    assert shifted.snr_db is not None
    assert shifted.snr_db < 20
    (negative,) = compare_layers(reference, [_output("b", -y, "m")], by_tensor=False)
    (still,) = compare_layers(reference, [_output("b", -y, "m")], by_tensor=False, free_scales=True)
    assert still == negative  # no factor is negative
    single = [_output("a", x[:1, :1, :1], "m")], [_output("b", 2 * x[:1, :1, :1], "m")]
    (few,) = compare_layers(*single, by_tensor=False, free_scales=True)
    assert few.snr_db == pytest.approx(0)  # a factor a value would explain anything


def test_modules_are_matched_by_what_the_exporter_kept_of_their_names() -> None:
    x = np.ones((1, 4), np.float32)
    known = ("net.back.stem.0", "net.back.stages.0", "net.back.stages.1.blocks.0", "net.head")
    rows = compare_layers(
        [_output(name, x, name) for name in known],
        [
            _output("t", x, name)
            for name in ("net.stem.0", "net.stages.0", "net.head", "net.tail", "")
        ],
        by_tensor=False,
    )
    assert [row.name for row in rows] == ["net.back.stem.0", "net.back.stages.0", "net.head"]


@pytest.mark.parametrize(
    ("tensor", "module"),
    [
        ("pkg.ExportScorer/pkg.Net_net/torch.nn.Sequential_stem/torch.nn.Conv2d_0;2", "net.stem.0"),
        ("pkg.ExportScorer/pkg.Net_net/pkg.Block_0/torch.nn.Conv2d_conv_dw;", "net.0.conv_dw"),
        ("pkg.ExportScorer/pkg._Normalise_normalise;2", "normalise"),
        (
            "pkg.ExportScorer/pkg._Net_net/torch.nn.BatchNormAct2d_bn1/torch.nn.ReLU_act;;"
            "pkg.ExportScorer/pkg._Net_net/torch.nn.BatchNormAct2d_bn1;;"
            "pkg.ExportScorer/pkg._Net_net/torch.nn.Conv2d_conv;1",
            "net.bn1.act",
        ),
        (
            "pkg.ExportScorer/pkg._Net_net/torch.nn.BatchNormAct2d_bn1;;"
            "pkg.ExportScorer/pkg._Net_net/torch.nn.Conv2d_conv;1",
            "net.conv",
        ),
        ("pkg.ExportScorer;", ""),
        ("twin_1/network.stem.0_1/BiasAdd;twin_1/network.stem.0_1/convolution", "network.stem.0"),
        ("twin_1/Mean", ""),
        ("score", ""),
    ],
)
def test_module_names_in_tflite_tensors(tensor: str, module: str) -> None:
    assert _tflite_module(tensor) == module


def test_a_modules_output_is_that_of_its_last_operator() -> None:
    scopes = ["a.b", "a.b", "a", "", "c.d", "c", "c.e", ""]
    assert _last_of_modules(scopes) == ["", "a.b", "a", "", "c.d", "", "c.e", ""]


def test_onnx_modules_are_read_from_parameters_quantised_or_not() -> None:
    from onnx import helper

    nodes = [
        helper.make_node("DequantizeLinear", ["n.conv.weight", "s", "z"], ["dq"]),
        helper.make_node("Conv", ["x", "dq"], ["c"]),
        helper.make_node("MatMul", ["c", "n.fc.weight"], ["m"]),
        helper.make_node("Add", ["m", "n.fc.bias"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert _onnx_modules(model) == {"c": "n.conv", "f": "n.fc"}


def test_onnx_modules_are_read_from_the_names_of_codes_and_folded_biases() -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Mul", ["image", "normalise.factor"], ["x"]),
        helper.make_node("DequantizeLinear", ["n.a.weight.codes", "s"], ["n.a.weight.float"]),
        helper.make_node("DequantizeLinear", ["n.a.bias.codes", "t"], ["n.a.bias.float"]),
        helper.make_node("Conv", ["x", "n.a.weight.float", "n.a.bias.float"], ["a"]),
        helper.make_node("Cast", ["n.b.weight.codes"], ["n.b.weight.codes.float"]),
        helper.make_node(
            "Mul", ["n.b.weight.codes.float", "n.b.weight.scales"], ["n.b.weight.float"]
        ),
        helper.make_node("Conv", ["a", "n.b.weight.float", "n.b.weight_bias"], ["b"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert _onnx_modules(model) == {"x": "normalise", "a": "n.a", "b": "n.b"}


def test_batch_norms_are_folded_as_exporters_do() -> None:
    import torch
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 4, 3, bias=False), BatchNormAct2d(4)
    scorer = ExportScorer(
        torch.nn.Sequential(conv, norm, torch.nn.Conv2d(4, 2, 1)), torch.nn.Identity(), []
    ).eval()
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    with torch.no_grad():
        for parameter in (norm.weight, norm.bias, mean):
            parameter.normal_()
        variance.uniform_(0.5, 2)
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    pixels = torch.from_numpy(image)
    maps = pixels.float().permute(0, 3, 1, 2)
    with torch.no_grad():
        score, activated = scorer(pixels), norm(conv(maps))
        normed = torch.nn.functional.batch_norm(conv(maps), mean, variance, norm.weight, norm.bias)
        _fold_batch_norms(scorer, image)
        torch.testing.assert_close(conv(maps), normed, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(norm(conv(maps)), activated, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(scorer(pixels), score, rtol=1e-4, atol=1e-3)


def test_quantised_tensors_become_real_numbers() -> None:
    stored = np.array([[0, 10], [-4, 2]], np.int8)
    whole = {"scales": np.array([0.5]), "zero_points": np.array([2]), "quantized_dimension": 0}
    found = dequantised(stored, {"quantization_parameters": whole})
    assert found.tolist() == [[-1, 4], [-3, 0]]
    each = {"scales": np.array([1, 2]), "zero_points": np.array([0, 1]), "quantized_dimension": 1}
    found = dequantised(stored, {"quantization_parameters": each})
    assert found.tolist() == [[0, 18], [-4, 2]]


@pytest.mark.parametrize("quantised", [False, True])
def test_tflite_shows_its_layers(
    quantised: bool, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    tf = import_tensorflow()
    kernel = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3], tf.uint8)])
    def tiny(image):
        features = tf.nn.relu(tf.nn.conv2d(tf.cast(image, tf.float32) / 255.0, kernel, 2, "SAME"))
        return tf.reduce_mean(features, axis=[1, 2, 3])

    converter = tf.lite.TFLiteConverter.from_concrete_functions([tiny.get_concrete_function()])
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in pixels)
    path = tmp_path / "tiny.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's advice
        path.write_bytes(converter.convert())
    layers = tflite_layers(path, pixels)
    assert [layer.op for layer in layers if "CONV" in layer.op] == ["CONV_2D"]
    convolved = next(layer for layer in layers if layer.op == "CONV_2D").values
    scaled = tf.constant(pixels.astype(np.float32) / 255)
    expected = tf.nn.relu(tf.nn.conv2d(scaled, kernel, 2, "SAME")).numpy()
    assert convolved.shape == (3, 1, *expected.shape[1:])
    bound = 0.05 if quantised else 1e-4
    assert np.abs(convolved[:, 0] - expected).max() <= bound * np.abs(expected).max()


def test_files_are_run_apart_and_the_record_is_kept(
    pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    good = write_tiny(tmp_path / "good.onnx")
    bad = write_tiny(tmp_path / "bad.onnx", zero_point=20)
    names = {
        "executed": executed("bad.onnx", sha256=sha256_of(bad)),
        "reference_executed": executed("good.onnx", sha256=sha256_of(good)),
    }
    record = measure_layers(bad, good, pixels, min_snr_db=20, **names)
    assert isinstance(record, LayersRecord)
    assert record.first_wrong == "convolved"
    assert "| convolved **← first wrong** | Conv | 1×8×5×5 |" in layers_table(record)
    save_record(tmp_path / "run", record)
    assert load_run(tmp_path / "run").layers == (record,)
    with pytest.raises(UsageError, match="on images"):
        measure_layers(bad, good, pixels[:0], min_snr_db=20, **names)


def test_files_without_a_common_layer_say_so(
    pixels: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefiqa.benchmarks.drift import layers

    good = write_tiny(tmp_path / "good.onnx")
    other = [_output("elsewhere", np.ones((3, 1), np.float32))]
    found = iter([other, onnx_layers(good, pixels)])
    monkeypatch.setattr(layers, "call_isolated", lambda *_: next(found))
    with pytest.raises(ArtifactError, match="no layer has the reference's name"):
        measure_layers(
            good, good, pixels, executed=executed(), reference_executed=executed(), min_snr_db=20
        )
