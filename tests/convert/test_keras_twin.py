"""The Keras twin says what torch says, layer by layer, and so does the file made from it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.models import lively

from edgefiqa.convert.keras_twin import TwinModel, build_twin, check_twin, convert_twin
from edgefiqa.convert.prepare import ExportScorer, prepare_scorer
from edgefiqa.errors import ParityError, UsageError
from edgefiqa.runtimes.tflite import LiteRtScorer, TensorFlowScorer

# Odd and even maps, so that torch's padding is met in both of its forms.
CASES = {
    "efficient-fiqa-student": 96,
    "mspt": 76,
    "mobilenetv2": 64,
    "ensemble": 70,
}


# Of each operator, however large the image. All but the cast of the image run in XNNPACK.
OPERATORS = {
    "efficient-fiqa-student": {
        "CAST": 1, "GELU": 12, "DEPTHWISE_CONV_2D": 33, "RESHAPE": 7, "TRANSPOSE": 3
    },
    "mspt": {"CAST": 1, "HARD_SWISH": 19, "DEPTHWISE_CONV_2D": 11, "RESHAPE": 1, "TRANSPOSE": 0},
    "mobilenetv2": {"CAST": 1, "DEPTHWISE_CONV_2D": 17, "RESHAPE": 1, "TRANSPOSE": 0},
    "ensemble": {"CAST": 1, "HARD_SWISH": 19, "DEPTHWISE_CONV_2D": 30, "TRANSPOSE": 16},
}  # fmt: skip


@dataclass
class Case:
    name: str
    prepared: ExportScorer
    twin: TwinModel
    content: bytes
    image: NDArray[np.uint8]
    score: float


def _image(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (1, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    size = CASES[request.param]
    prepared, image = prepare_scorer(lively(request.param), size), _image(size)
    twin = build_twin(prepared, size)
    with torch.inference_mode():
        score = float(prepared(torch.from_numpy(image)))
    return Case(request.param, prepared, twin, convert_twin(twin), image, score)


def _operators(content: bytes) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names[codes[op.opcodeIndex]] for op in model.subgraphs[0].operators]


def test_every_layer_and_the_score_equal_torch(case: Case) -> None:
    records = check_twin(case.prepared, case.twin, case.image)
    assert len(records) > 40
    assert records[-1].name == "score"
    assert records[-1].max_abs_error <= 1e-5 * max(1.0, abs(case.score))
    assert all(record.scale > 0 for record in records)


@pytest.mark.parametrize("runtime", [LiteRtScorer, TensorFlowScorer])
def test_the_file_scores_like_torch_in_both_interpreters(
    case: Case, runtime: type[Any], tmp_path: Path
) -> None:
    path = tmp_path / "twin.tflite"
    path.write_bytes(case.content)
    found = runtime(path, threads=1).score(case.image)
    np.testing.assert_allclose(found, [case.score], rtol=1e-4, atol=1e-5)


def test_the_file_keeps_the_scorer_contract(case: Case) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=case.content)
    interpreter.allocate_tensors()
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["score"]}
    }
    (image,), (score,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["name"], image["dtype"]) == ("image", np.uint8)
    assert image["shape"].tolist() == list(case.image.shape)
    assert (score["name"], score["dtype"]) == ("score", np.float32)
    assert score["shape"].tolist() == [1]


def test_the_same_model_gives_the_same_bytes(case: Case) -> None:
    again = convert_twin(build_twin(case.prepared, case.twin.size))
    assert again == case.content


def test_weights_are_aligned(case: Case) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(case.content, 0)
    start = np.frombuffer(case.content, np.uint8).ctypes.data
    checked = 0
    for index in range(model.BuffersLength()):
        if model.Buffers(index).DataLength():
            address = model.Buffers(index).DataAsNumpy().ctypes.data
            assert (address - start) % 16 == 0
            checked += 1
    assert checked > 10


def test_operators_are_fused(case: Case) -> None:
    operators = _operators(case.content)
    expected = OPERATORS[case.name]
    assert {name: operators.count(name) for name in expected} == expected


@pytest.mark.parametrize(
    "layer",
    ["stem.0", "stages.1.blocks.1.mlp.fc1", "stages.2.blocks.3.conv_dw", "stages.3.blocks.1.xca"],
)
def test_a_wrong_layer_is_named(layer: str) -> None:
    size = 64
    prepared = prepare_scorer(lively("efficient-fiqa-student"), size)
    twin = build_twin(prepared, size)
    name = f"network.backbone.{layer}"
    weight = prepared.get_parameter(f"{name}.proj.weight" if "xca" in layer else f"{name}.weight")
    with torch.no_grad():  # one element: a shift of a whole row is lost behind a LayerNorm
        weight[0, 0] += 0.05 * weight.abs().max()
    with pytest.raises(ParityError, match=f"layer '{name}'"):
        check_twin(prepared, twin)


def test_nan_is_a_difference() -> None:
    prepared = prepare_scorer(lively("mobilenetv2"), 64)
    twin = build_twin(prepared, 64)
    layer = twin.model.get_layer("network.backbone.blocks.1.0.conv_pw")
    layer.set_weights([np.full_like(value, np.nan) for value in layer.get_weights()])
    with pytest.raises(ParityError, match=r"layer 'network\.backbone\.blocks\.1\.0\.bn1'"):
        check_twin(prepared, twin)


@pytest.mark.parametrize(
    ("name", "named"),
    [("efficient-fiqa-teacher", "SwinTransformer"), ("timm:edgenext_x_small", "EdgeNeXt")],
)
def test_other_architectures_are_refused(name: str, named: str) -> None:
    prepared = prepare_scorer(lively(name), 64)
    with pytest.raises(UsageError, match=rf"{named}.*Allowed: .*--to tflite"):
        build_twin(prepared, 64)


def test_importing_the_package_does_not_load_tensorflow() -> None:
    code = "import sys, edgefiqa.convert.keras_twin; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
