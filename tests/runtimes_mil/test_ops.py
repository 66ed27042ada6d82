"""Every op against coremltools' value inference, or its documentation where it has none."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.runtimes_mil.programs import evaluate, infer, lowered, ran

from edgefiqa.errors import ArtifactError
from edgefiqa.runtimes.mil import MilOp, Mode, UnsupportedOp
from edgefiqa.runtimes.mil.table import FRESH, MOVES, OPS

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools warns while it builds programs

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def draw_the_same_alone() -> None:
    """What a test draws must not depend on the tests before it."""
    RNG.bit_generator.state = np.random.default_rng(8).bit_generator.state


def floats(*shape: int) -> Any:
    return RNG.normal(0, 2, shape).astype(np.float32)


def whole(*shape: int, high: int = 9) -> Any:
    return RNG.integers(1, high, shape).astype(np.int32)


X = floats(2, 3, 4, 5)

EXACT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *[(op, {"x": X}, {}) for op in ("abs", "ceil", "floor", "relu", "relu6", "sign", "square")],
    ("round", {"x": np.array([[0.5, 1.5, 2.5, -0.5, -1.5]], np.float32)}, {}),
    *[
        (op, {"x": X, "y": floats(4, 1)}, {})
        for op in ("add", "sub", "mul", "real_div", "maximum", "minimum", "floor_div", "mod")
    ],
    *[
        (op, {"x": whole(3, 4), "y": whole(4)}, {})
        for op in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
    ],
    ("add", {"x": whole(3, 4), "y": whole(4)}, {}),
    ("clip", {"x": X}, {"alpha": -1.0, "beta": 1.5}),
    ("threshold", {"x": X}, {"alpha": 0.5}),
    ("thresholded_relu", {"x": np.array([[-1, 0.49, 0.5, 0.51]], np.float32)}, {"alpha": 0.5}),
    ("leaky_relu", {"x": X}, {"alpha": 0.1}),
    ("cast", {"x": X}, {"dtype": "int32"}),
    ("cast", {"x": X}, {"dtype": "bool"}),
    ("sqrt", {"x": np.abs(X)}, {}),
    ("transpose", {"x": X}, {"perm": [0, 2, 3, 1]}),
    ("reshape", {"x": X}, {"shape": [0, -1, 5, 1]}),
    ("expand_dims", {"x": X}, {"axes": [0, -1]}),
    ("squeeze", {"x": floats(1, 3, 1)}, {"axes": [0]}),
    ("reverse", {"x": X}, {"axes": [1, -1]}),
    (
        "slice_by_index",
        {"x": X},
        {
            "begin": [0, 2, -1, 1],
            "end": [0, 0, -4, 5],
            "stride": [1, -1, -2, 2],
            "begin_mask": [True, False, False, False],
            "end_mask": [True, True, False, False],
        },
    ),
    (
        "slice_by_index",
        {"x": X},
        {
            "begin": [-1, 0, 0, 0],
            "end": [0, 0, 0, 0],
            "squeeze_mask": [True] + [False] * 3,
            "begin_mask": [False] + [True] * 3,
            "end_mask": [False] + [True] * 3,
        },
    ),
    ("slice_by_size", {"x": X}, {"begin": [0, 1, -2, 0], "size": [2, 1, 2, -1]}),
    ("tile", {"x": X}, {"reps": [1, 2, 1, 3]}),
    ("split", {"x": X}, {"split_sizes": [1, 2], "axis": 1}),
    ("pad", {"x": X}, {"pad": [1, 2, 0, 3], "mode": "constant", "constant_val": 4.0}),
    ("pad", {"x": X}, {"pad": [1, 2, 3, 0], "mode": "reflect"}),
    ("pad", {"x": X}, {"pad": [5, 2, 3, 1], "mode": "replicate"}),
    ("gather", {"x": X}, {"indices": np.array([2, 0], np.int32), "axis": 1}),
    ("gather_along_axis", {"x": X}, {"indices": whole(2, 3, 4, 2, high=4), "axis": 3}),
    ("flatten2d", {"x": X}, {"axis": 2}),
    ("band_part", {"x": X}, {"lower": 1, "upper": 2}),
    ("reduce_max", {"x": X}, {"axes": [1, -1], "keep_dims": True}),
    ("reduce_min", {"x": X}, {"axes": [0]}),
    ("reduce_argmax", {"x": X}, {"axis": 2}),
    ("reduce_argmin", {"x": X}, {"axis": 1, "keep_dims": True}),
    ("argsort", {"x": X}, {"axis": 1}),
    ("topk", {"x": X}, {"k": 2, "axis": 3}),
    ("select", {"cond": X > 0, "a": X, "b": -X}, {}),
]

CLOSE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *[
        (op, {"x": X}, {})
        for op in (
            "atan",
            "cos",
            "cosh",
            "erf",
            "exp",
            "exp2",
            "sigmoid",
            "sin",
            "sinh",
            "softplus",
            "softsign",
            "tan",
            "tanh",
        )
    ],
    *[(op, {"x": np.tanh(X)}, {}) for op in ("acos", "asin", "atanh")],
    *[(op, {"x": np.abs(X)}, {"epsilon": 1e-3}) for op in ("inverse", "log", "rsqrt")],
    ("pow", {"x": np.abs(X), "y": floats(5)}, {}),
    *[
        ("gelu", {"x": X}, {"mode": mode})
        for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    ],
    ("clamped_relu", {"x": X}, {"alpha": 0.2, "beta": 1.0}),
    ("elu", {"x": X}, {"alpha": 0.7}),
    ("linear_activation", {"x": X}, {"alpha": 0.3, "beta": 1.0}),
    ("prelu", {"x": X}, {"alpha": floats(3)}),
    ("scaled_tanh", {"x": X}, {"alpha": 0.3, "beta": 1.4}),
    ("sigmoid_hard", {"x": X}, {"alpha": 0.3, "beta": 0.4}),
    ("softmax", {"x": X}, {"axis": 1}),
    ("linear", {"x": floats(4, 6)}, {"weight": floats(7, 6), "bias": floats(7)}),
    ("matmul", {"x": floats(2, 4, 6), "y": floats(2, 3, 6)}, {"transpose_y": True}),
    ("layer_norm", {"x": X}, {"axes": [-1], "gamma": floats(5), "beta": floats(5)}),
    ("layer_norm", {"x": X}, {"axes": [1], "gamma": floats(3), "beta": floats(3)}),
    ("l2_norm", {"x": X}, {"epsilon": 1e-4}),
    *[
        (f"reduce_{kind}", {"x": np.abs(X) + 0.5}, {"axes": [1, 3], "keep_dims": keep})
        for kind in (
            "mean",
            "sum",
            "prod",
            "l1_norm",
            "l2_norm",
            "log_sum",
            "log_sum_exp",
            "sum_square",
        )
        for keep in (True, False)
    ],
    ("cumsum", {"x": X}, {"axis": 1, "reverse": True}),
]


def _name(case: tuple[str, Any, Any]) -> str:
    return case[0]


@pytest.mark.parametrize("case", EXACT, ids=_name)
def test_data_movement_and_arithmetic_are_exact(case: Any) -> None:
    op, live, fixed = case
    found = evaluate(op, live, fixed)
    assert found
    for got, wanted in zip(found, infer(op, live, fixed), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("case", CLOSE, ids=_name)
def test_other_ops_are_close(case: Any) -> None:
    op, live, fixed = case
    found = evaluate(op, live, fixed)
    assert found
    for got, wanted in zip(found, infer(op, live, fixed), strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=3e-6, atol=3e-6)


def test_reshape_copies_zeros_from_the_right_since_ios17() -> None:
    (got,) = evaluate("reshape", {"x": X}, {"shape": [-1, 0, 0]}, target="iOS17")
    assert got.shape == (6, 4, 5)


def test_concat_and_stack() -> None:
    parts = [floats(2, 3), floats(2, 3)]
    live = {"a": parts[0], "b": parts[1]}
    from coremltools.converters.mil.mil import Builder, Function, Placeholder, types

    from edgefiqa.runtimes.mil.program import lower

    builder: Any = Builder
    with Function({name: Placeholder((2, 3), types.fp32) for name in live}) as function:
        pair = tuple(function.inputs.values())
        function.set_outputs(
            [
                builder.concat(values=pair, axis=1),
                builder.concat(values=pair, axis=1, interleave=True),
                builder.stack(values=pair, axis=1),
            ]
        )
    joined, interleaved, stacked = ran(lower(function, Mode.FP16), live)
    np.testing.assert_array_equal(joined, np.concatenate(parts, 1))
    np.testing.assert_array_equal(interleaved, np.stack(parts, 2).reshape(2, 6))
    np.testing.assert_array_equal(stacked, np.stack(parts, 1))


def test_linear_takes_whole_weights_beside_a_float_input() -> None:
    x, weight, bias = floats(2, 3), whole(4, 3), whole(4)
    (got,) = evaluate("linear", {"x": x}, {"weight": weight, "bias": bias}, target="iOS17")
    np.testing.assert_allclose(got, x @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_nearest_resizing_takes_the_element_next_to_the_grid() -> None:
    x = np.array([-6.0, 9.0], np.float32).reshape(1, 1, 2, 1)
    fixed = {"shape": [1, 1, 3, 2], "resized_dims": np.uint32(2)}
    fixed |= {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": "DEFAULT"}
    (got,) = evaluate("resize", {"x": x}, fixed, target="iOS17")
    np.testing.assert_array_equal(got[0, 0], [[-6, -6], [9, 9], [9, 9]])


@pytest.mark.parametrize("index", [-1, 3])
def test_indices_are_validated_where_the_program_asks_for_it(index: int) -> None:
    live = {
        "data": floats(3, 2),
        "indices": np.array([index, 0], np.int32),
        "updates": floats(2, 2),
    }
    checked = lowered("scatter", live, {"validate_indices": True}, target="iOS17")
    with pytest.raises(ArtifactError, match=r"'scatter' cannot .* not among 0\.\.2"):
        ran(checked, live)
    live["indices"] = np.array([2, 0], np.int32)
    (got,) = ran(checked, live)
    np.testing.assert_array_equal(got[2], live["data"][2] + live["updates"][0])


@pytest.mark.parametrize(
    ("pad_type", "before", "after"), [("same", 0, 1), ("same_lower", 1, 0), ("valid", 0, 0)]
)
def test_convolution_puts_odd_padding_where_mil_says(
    pad_type: str, before: int, after: int
) -> None:
    x, weight = floats(1, 4, 6, 6), floats(6, 2, 3, 3)
    fixed = {"weight": weight, "bias": floats(6), "strides": [2, 2], "groups": 2}
    (got,) = evaluate("conv", {"x": x}, fixed | {"pad_type": pad_type})
    padded = F.pad(torch.from_numpy(x), (before, after) * 2)
    wanted = F.conv2d(
        padded, torch.from_numpy(weight), torch.from_numpy(fixed["bias"]), stride=2, groups=2
    )
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_average_pool_counts_padding_unless_told_otherwise() -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    fixed = {"kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]}
    (counted,) = evaluate("avg_pool", {"x": x}, fixed)
    (excluded,) = evaluate("avg_pool", {"x": x}, fixed | {"exclude_padding_from_average": True})
    assert counted.max() == 0.25
    assert excluded.min() == 1.0


@pytest.mark.parametrize("op", ["avg_pool", "max_pool"])
def test_pooling_with_ceil_mode_is_torchs(op: str) -> None:
    x = floats(1, 2, 7, 7)
    fixed = {"kernel_sizes": [2, 2], "strides": [2, 2], "pad_type": "custom", "pad": [0] * 4}
    (got,) = evaluate(op, {"x": x}, fixed | {"ceil_mode": True})
    function = F.avg_pool2d if op == "avg_pool" else F.max_pool2d
    wanted = function(torch.from_numpy(x), 2, 2, ceil_mode=True)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6)


def test_float16_results_are_rounded_only_in_fp16_mode() -> None:
    live = {"x": np.array([[1.0, 3.0]], np.float16), "y": np.array([[3.0, 7.0]], np.float16)}
    exact = ran(lowered("real_div", live, {}, mode=Mode.FP32), live)[0]
    rounded = ran(lowered("real_div", live, {}, mode=Mode.FP16), live)[0]
    np.testing.assert_array_equal(rounded, exact.astype(np.float16).astype(np.float32))
    assert not np.array_equal(rounded, exact)


def test_float16_overflow_is_infinite_and_its_size_is_known() -> None:
    live = {"x": np.array([[300.0]], np.float16)}
    program = lowered("square", live, {})
    with torch.inference_mode():
        found, (largest, _) = program.run([torch.tensor([[300.0]])], None)
    assert next(iter(found.values())).item() == float("inf")  # type: ignore[union-attr]
    assert largest == 90000.0


def test_an_op_outside_the_table_is_named() -> None:
    with pytest.raises(UnsupportedOp, match="'random_normal'"):
        lowered("random_normal", {"shape": np.array([2, 2], np.int32)}, {"mean": 0.0})


def test_moving_ops_are_known_ops() -> None:
    assert set(OPS) > MOVES
    assert {"conv", "linear", "add"}.isdisjoint(MOVES)


OF_THEIR_OWN = [
    *[case for case in (*EXACT, *CLOSE) if case[0] in FRESH],
    ("avg_pool", {"x": X}, {"kernel_sizes": [1, 1], "pad_type": "valid"}),
    ("batch_norm", {"x": X}, {"mean": np.zeros(3, np.float32), "variance": np.ones(3, np.float32)}),
    ("conv", {"x": X}, {"weight": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}),
    ("reduce_sum", {"x": floats(2, 1)}, {"axes": [1]}),
    ("silu", {"x": X}, {}),
]


@pytest.mark.parametrize("case", OF_THEIR_OWN, ids=_name)
def test_what_may_be_rounded_in_place_is_no_input(case: Any) -> None:
    op, live, fixed = case
    places: list[set[int]] = []

    def observe(_op: MilOp, outputs: tuple[torch.Tensor, ...]) -> None:
        places.append({output.untyped_storage().data_ptr() for output in outputs})

    program = lowered(op, live, fixed)
    with torch.inference_mode():
        program.run(
            [torch.from_numpy(np.array(live[input_.name])) for input_ in program.inputs], observe
        )
    assert len(places) == len(live) + 1
    assert all(places[-1].isdisjoint(inputs) for inputs in places[:-1])


def test_every_op_that_is_rounded_in_place_is_tested() -> None:
    assert {op for op, _, _ in OF_THEIR_OWN} == FRESH
