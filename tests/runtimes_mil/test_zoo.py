"""Whole programs on real photographs: against torch, and op by op against coremltools."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models import lively
from tests.runtimes_mil.programs import Array, save_network
from torch import nn

from edgefiqa.convert.prepare import prepare_scorer
from edgefiqa.preprocess import load_tensor
from edgefiqa.runtimes.mil import FP16_MAX, MilModel, MilOp, Mode
from edgefiqa.runtimes.mil.package import open_package
from edgefiqa.runtimes.mil.program import lower
from edgefiqa.runtimes.mil.table import MOVES
from edgefiqa.runtimes.mil_reference import MilReferenceScorer
from edgefiqa.runtimes.torch import score_with_torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faces,
    pytest.mark.filterwarnings("ignore"),  # warnings of coremltools and torch.export
]

ARITHMETIC = {"add", "sub", "mul", "real_div", "sqrt", "cast", "equal", "not_equal"}
BOUNDS = {"fp32": 1e-5, "fp16": 5e-3}
# Side in pixels, photographs. Those of the scorers as trained: edgefiqa study mil-agreement.
MODELS = [
    ("efficient-fiqa-student", 96, 4),
    ("mspt", 96, 4),
    ("ensemble", 96, 4),
    ("efficient-fiqa-teacher", 96, 2),
]


def with_scores_of_unit_size(name: str) -> nn.Module:
    """Random weights whose scores spread as a trained scorer's do.

    A random head gives scores of any size, and float16 rounds relative to the largest addend.
    """
    network = lively(name)
    heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        heads[-1].weight.normal_(0, 0.01)
    return network


@pytest.mark.parametrize(("name", "size", "count"), MODELS)
def test_programs_say_what_torch_says(
    name: str, size: int, count: int, faces: list[Path], tmp_path: Path
) -> None:
    network = with_scores_of_unit_size(name)
    images = np.concatenate([load_tensor(face, size) for face in faces[:count]])
    wanted = score_with_torch(network, images)
    assert np.ptp(wanted) > 0
    for precision, bound in BOUNDS.items():
        path = save_network(network, size, tmp_path / f"{precision}.mlpackage", precision)
        got = MilReferenceScorer(path, threads=1).score(images)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=bound, err_msg=precision)


def test_float16_drifts_as_much_as_torchs_own(faces: list[Path], tmp_path: Path) -> None:
    network, size = lively("mspt"), 96
    images = np.concatenate([load_tensor(face, size) for face in faces[:8]])
    scorer = prepare_scorer(network, size).eval()
    half, pixels = copy.deepcopy(scorer).half(), torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = scorer.forward_nchw(pixels.float()).numpy()
        torchs = torch.cat([half.forward_nchw(image[None].half()) for image in pixels])
    path = save_network(network, size, tmp_path / "m.mlpackage", "fp16")
    drifts = [
        float(np.sqrt(np.mean((scores - wanted) ** 2)))
        for scores in (torchs.float().numpy(), MilReferenceScorer(path, threads=1).score(images))
    ]
    assert drifts[0] > 0
    assert 0.4 < drifts[1] / drifts[0] < 2.5


def test_the_default_student_stays_far_from_overflow(export_dir: Path, faces: list[Path]) -> None:
    from PIL import Image

    (path,) = export_dir.glob("*fp16.mlpackage")
    model = MilModel.load(path)
    for face in faces[:10]:
        model.predict({"image": Image.fromarray(load_tensor(face, 288)[0])})
        assert 0 < model.largest < FP16_MAX / 2


def record_activations(function: Any, pixels: torch.Tensor) -> dict[str, Array]:
    """Run a float32 program; return every op's outputs by name."""
    seen: dict[str, Array] = {}

    def observe(op: MilOp, outputs: tuple[torch.Tensor, ...]) -> None:
        for declared, value in zip(op.outputs, outputs, strict=True):
            seen[declared.name] = value.numpy().copy()

    with torch.inference_mode():
        lower(function, Mode.FP16).run([pixels], observe)
    return seen


def infer_again(op: Any, seen: dict[str, Array]) -> list[Any]:
    """Evaluate one op of a program by coremltools' value inference on recorded inputs."""
    from coremltools.converters.mil.mil import Builder, Function, Placeholder, types

    builder: Any = Builder

    def constant(var: Any) -> Any:
        if isinstance(var, list | tuple):
            return [constant(each) for each in var]
        if isinstance(var.val, np.generic):  # its inference of reductions wants Python's numbers
            return var.val.item()
        return builder.const(val=seen.get(var.name, var.val))

    inputs = {"unused": Placeholder((1,), types.fp32)}
    with Function(inputs, opset_version=None) as function:
        given = {name: constant(var) for name, var in op.inputs.items() if var is not None}
        found = getattr(builder, op.op_type)(**given)
        function.set_outputs([function.inputs["unused"]])
    return list(found) if isinstance(found, list | tuple) else [found]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        (
            "efficient-fiqa-student",
            {"linear", "matmul", "gelu", "softmax", "transpose", "add", "mul"},
        ),
        ("mspt", {"linear", "relu", "sigmoid_hard", "reduce_mean", "reshape", "add", "mul"}),
    ],
)
def test_each_op_agrees_with_value_inference_on_real_activations(
    name: str, least: set[str], faces: list[Path], tmp_path: Path
) -> None:
    path = save_network(lively(name), 96, tmp_path / "m.mlpackage", "fp32")
    function = open_package(path).function
    pixels = torch.from_numpy(load_tensor(faces[0], 96).transpose(0, 3, 1, 2).astype(np.float32))
    seen = record_activations(function, pixels)
    checked: set[str] = set()
    for op in function.operations:
        if op.op_type == "const" or op.outputs[0].name not in seen:
            continue
        if op.op_type == "conv":  # coremltools has no value inference for it
            continue
        for var, output in zip(infer_again(op, seen), op.outputs, strict=True):
            if var.val is None:
                continue
            got, wanted = seen[output.name], np.asarray(var.val)
            checked.add(op.op_type)
            if op.op_type in MOVES | ARITHMETIC:
                np.testing.assert_array_equal(got, wanted, err_msg=op.name)
            else:
                scale = max(float(np.abs(wanted).max()), 1e-6)
                assert float(np.abs(got - wanted).max()) <= 3e-6 * scale, op.name
    assert checked >= least
