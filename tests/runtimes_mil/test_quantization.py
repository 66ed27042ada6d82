"""Quantised weights and activations, bit by bit."""

from typing import Any

import numpy as np
import pytest
from tests.runtimes_mil.programs import evaluate, infer, ran

pytestmark = pytest.mark.filterwarnings("ignore")  # coremltools warns while it builds programs


def constant(op: str, fixed: dict[str, Any], *, target: str) -> tuple[list[Any], list[Any]]:
    """Evaluate a constexpr op, folded at load time, and let coremltools decompress it."""
    x = np.zeros((1,), np.float32)
    from coremltools.converters.mil.mil import Builder, Function, Placeholder, types

    from edgefiqa.runtimes.imports import import_coremltools
    from edgefiqa.runtimes.mil import Mode
    from edgefiqa.runtimes.mil.program import lower

    builder: Any = Builder
    version = getattr(import_coremltools().target, target)
    with Function({"x": Placeholder((1,), types.fp32)}, opset_version=version) as function:
        result = getattr(builder, op)(**fixed)
        found = list(result) if isinstance(result, tuple | list) else [result]
        function.set_outputs(found)
    wanted = found[0].op.materialized_val_inference()
    program = lower(function, Mode.FP16)
    assert program.folded == 1
    assert not program.steps
    return ran(program, {"x": x}), list(wanted) if isinstance(wanted, tuple) else [wanted]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_affine_weights(dtype: Any, per_channel: bool, rng: np.random.Generator) -> None:
    info = np.iinfo(dtype)
    data = rng.integers(info.min, info.max + 1, (4, 3, 2), dtype=dtype)
    size = (3,) if per_channel else ()
    fixed = {
        "quantized_data": data,
        "zero_point": np.asarray(rng.integers(0, 9, size), dtype)[()],
        "scale": np.asarray(rng.uniform(0.1, 1, size), np.float32)[()],
        "axis": np.int32(1),
    }
    (got,), (wanted,) = constant("constexpr_affine_dequantize", fixed, target="iOS16")
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_palettes_of_ios16_are_packed_from_the_lowest_bit(
    bits: int, rng: np.random.Generator
) -> None:
    shape = (5, 3, 3)
    indices = rng.integers(0, 2**bits, shape)
    table = rng.normal(0, 1, 2**bits).astype(np.float32)
    stream = [(int(index) >> bit) & 1 for index in indices.reshape(-1) for bit in range(bits)]
    fixed = {
        "indices": np.packbits(stream, bitorder="little"),
        "lut": table,
        "shape": np.array(shape, np.uint32),
    }
    (got,), (wanted,) = constant("constexpr_lut_to_dense", fixed, target="iOS16")
    np.testing.assert_array_equal(got, table[indices])
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("tables", "width", "axis"),
    [((1, 1), 1, None), ((2, 1), 1, None), ((2, 1), 2, 0), ((1, 2), 3, 1)],
)
def test_palettes_of_ios18(
    tables: tuple[int, int], width: int, axis: int | None, rng: np.random.Generator
) -> None:
    from coremltools.converters.mil.mil import types

    indices = rng.integers(0, 4, (4, 6)).astype(types.np_uint2_dtype)
    fixed: dict[str, Any] = {
        "indices": indices,
        "lut": rng.normal(0, 1, (*tables, 4, width)).astype(np.float32),
    }
    if axis is not None:
        fixed["vector_axis"] = np.int32(axis)
    (got,), (wanted,) = constant("constexpr_lut_to_dense", fixed, target="iOS18")
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("offset", [False, True])
def test_block_wise_weights(offset: bool, rng: np.random.Generator) -> None:
    data = rng.integers(-128, 128, (4, 6, 1, 1), dtype=np.int8)
    fixed: dict[str, Any] = {
        "data": data,
        "scale": rng.uniform(0.1, 1, (4, 3, 1, 1)).astype(np.float32),
    }
    if offset:
        fixed["offset"] = rng.integers(-9, 9, (4, 3, 1, 1), dtype=np.int8)
    (got,), (wanted,) = constant("constexpr_blockwise_shift_scale", fixed, target="iOS18")
    np.testing.assert_array_equal(got, wanted)


def test_sparse_weights_of_ios16(rng: np.random.Generator) -> None:
    dense = rng.normal(0, 1, (3, 5)).astype(np.float32) * rng.integers(0, 2, (3, 5))
    mask = np.packbits((dense != 0).reshape(-1), bitorder="little")
    fixed = {
        "nonzero_data": dense[dense != 0].astype(np.float32),
        "mask": mask,
        "shape": np.array(dense.shape, np.uint32),
    }
    (got,), _ = constant("constexpr_sparse_to_dense", fixed, target="iOS16")
    np.testing.assert_array_equal(got, dense)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantisation_rounds_half_to_even_and_clips(dtype: str) -> None:
    x = np.array([[0.25, 0.75, 1.25, -0.25, -0.75, 500, -500]], np.float32)
    zero = np.uint8(7) if dtype == "uint8" else np.int8(7)
    fixed = {"scale": np.float32(0.5), "zero_point": zero, "output_dtype": dtype}
    (got,) = evaluate("quantize", {"input": x}, fixed, target="iOS17")
    (wanted,) = infer("quantize", {"input": x}, fixed, target="iOS17")
    np.testing.assert_array_equal(got, wanted)
    low, high = (0, 255) if dtype == "uint8" else (-128, 127)
    np.testing.assert_array_equal(got[0], [7, 9, 9, 7, 5, high, low])


def test_quantisation_per_channel_and_back(rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, (2, 3, 4)).astype(np.float32)
    fixed = {
        "scale": np.array([0.1, 0.01, 0.5], np.float32),
        "zero_point": np.array([0, 3, -3], np.int8),
        "axis": np.int32(1),
    }
    into = fixed | {"output_dtype": "int8"}
    (got,) = evaluate("quantize", {"input": x}, into, target="iOS17")
    np.testing.assert_array_equal(got, infer("quantize", {"input": x}, into, target="iOS17")[0])
    (back,), (wanted,) = constant(
        "dequantize", fixed | {"input": got.astype(np.int8)}, target="iOS17"
    )
    np.testing.assert_array_equal(back, wanted)
