"""Ranges, plans, sensitivities and the ladder."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.models import lively
from tests.quantize.plans import plan_of
from tests.quantize.test_weights import network

from edgefiqa.convert.prepare import prepare_scorer
from edgefiqa.quantize.engine import (
    INT8,
    BlockSensitivity,
    blocks_of,
    ladder,
    make_plan,
    ranges_per_image,
    rank_blocks,
    return_blocks,
)
from edgefiqa.quantize.graph import Neighbour
from edgefiqa.quantize.plan import Kind, Layer, LayerPlan, Mode, QuantizationPlan, Range
from edgefiqa.quantize.reference import correct_score, fake_quantize, score_images
from edgefiqa.quantize.statistics import Flow, Observed, choose_range, observe

RANGE = Range(low=-1.0, high=1.0)


def layer(name: str, macs: int, kind: Kind = Kind.LINEAR, *, regression: bool = False) -> Layer:
    return Layer(name=name, kind=kind, macs=macs, parameters=1, regression=regression)


def plan(*layers: Layer, mode: Mode = Mode.STATIC) -> QuantizationPlan:
    return QuantizationPlan(
        layers=tuple(
            LayerPlan(layer=member, mode=mode, input=RANGE, output=RANGE) for member in layers
        )
    )


@given(st.floats(-100, 0), st.floats(0.01, 100))
def test_zero_has_a_code_of_its_own(low: float, high: float) -> None:
    for signed in (False, True):
        scale, zero = Range(low=low, high=high).affine(signed=signed)
        least = -128 if signed else 0
        assert least <= zero <= least + 255
        code = np.rint(0.0 / scale + zero)
        assert (code - zero) * scale == 0
        # The ends are within half a step of a code.
        assert abs((least - zero) * scale - low) <= 0.51 * scale
        assert abs((least + 255 - zero) * scale - high) <= 0.51 * scale


def flow(values: torch.Tensor) -> Flow:
    two_branches = Flow()
    two_branches.add(values, torch.Generator().manual_seed(0))
    return two_branches


def test_range_beats_the_extremes_on_heavy_tails() -> None:
    values = torch.cat((torch.randn(100_000), torch.tensor([80.0, -60.0])))
    found = choose_range(flow(values))
    assert 2.0 < found.high < 40
    assert -30 < found.low < -2.0
    full = Range(low=-60.0, high=80.0)

    def error(bounds: Range) -> float:
        scale, zero = bounds.affine(signed=False)
        codes = torch.clamp(torch.round(values[:-2] / scale) + zero, 0, 255)
        return float((((codes - zero) * scale - values[:-2]) ** 2).mean())

    assert error(found) < 0.2 * error(full)


def test_range_ends_where_the_activation_is_flat() -> None:
    values = torch.linspace(-10, 6, 10_000)
    assert choose_range(flow(values), activation="relu").low == 0
    assert choose_range(flow(values), activation="hardswish").low >= -3
    assert choose_range(flow(values), activation="hardsigmoid").high <= 3
    assert choose_range(flow(values)).low < -8


def test_range_of_a_constant_tensor_is_usable() -> None:
    found = choose_range(flow(torch.zeros(100)))
    assert found.affine(signed=False)[0] > 0


def test_static_layers_need_ranges() -> None:
    with pytest.raises(ValueError, match=r"a\.b: a static layer needs the ranges"):
        LayerPlan(layer=layer("a.b", 1), mode=Mode.STATIC)


def test_plan_takes_the_formats_best_allowed_mode() -> None:
    layers = [
        layer("a.fc", 80),
        layer("b.dw", 15, Kind.DEPTHWISE),
        layer("head", 5, regression=True),
    ]
    observed = {
        member.name: Observed(input=flow(torch.randn(9)), output=flow(torch.randn(9)))
        for member in layers
    }
    chain = {member.name: Neighbour(layer=member.name) for member in layers}

    def supports(candidate: Layer) -> tuple[Mode, ...]:
        if candidate.kind is Kind.DEPTHWISE:
            return (Mode.FLOAT, Mode.STATIC)
        return (Mode.DYNAMIC, Mode.STATIC, Mode.FLOAT)

    def modes(*allowed: Mode, least: float = 0.0) -> list[Mode]:
        made = make_plan(
            layers, observed, chain, supports=supports, allowed=allowed, min_int8_share=least
        )
        return [planned.mode for planned in made.layers]

    assert modes(Mode.STATIC) == [Mode.STATIC, Mode.STATIC, Mode.FLOAT]
    assert modes(*INT8, Mode.FLOAT) == [Mode.DYNAMIC, Mode.FLOAT, Mode.FLOAT]
    # Float is preferred for the depthwise layer only as long as enough is in int8.
    assert modes(*INT8, Mode.FLOAT, least=0.9) == [Mode.DYNAMIC, Mode.STATIC, Mode.FLOAT]
    assert modes(Mode.WEIGHT) == [Mode.FLOAT, Mode.FLOAT, Mode.FLOAT]


def test_blocks_are_parents_and_depthwise_layers() -> None:
    made = plan(
        layer("x.mlp.fc1", 10),
        layer("x.mlp.fc2", 10),
        layer("x.conv_dw.parts.0", 3, Kind.DEPTHWISE),
        layer("x.conv_dw.parts.1", 2, Kind.DEPTHWISE),
    )
    assert blocks_of(made) == pytest.approx({"x.mlp": 0.8, "x.conv_dw": 0.2})
    assert made.without(["x.mlp"]).share(*INT8) == pytest.approx(0.2)


def test_ladder_returns_what_costs_most_per_multiply_add_first() -> None:
    made = plan(
        *(layer(f"{name}.fc", macs) for name, macs in (("a", 50), ("b", 40), ("c", 6), ("d", 4)))
    )
    found = ladder(
        made,
        [
            BlockSensitivity(block="a", share=0.5, rmse=0.010),
            BlockSensitivity(block="b", share=0.4, rmse=0.002),
            BlockSensitivity(block="c", share=0.06, rmse=0.009),
            BlockSensitivity(block="d", share=0.04, rmse=0.008),
        ],
        min_int8_share=0.9,
    )
    assert found[0] == ()
    assert found[-1] == ("d", "c")
    for blocks in found:
        assert made.without(blocks).share(*INT8) >= 0.9 - 1e-9


def test_ladder_goes_by_the_error_in_the_plans_own_mode() -> None:
    made = plan(layer("a.fc", 90), layer("b.fc", 10), layer("c.fc", 10), mode=Mode.DYNAMIC)
    found = ladder(
        made,
        [
            BlockSensitivity(block="a", share=0.82, rmse=0.001, mode=Mode.DYNAMIC),
            BlockSensitivity(block="b", share=0.09, rmse=0.008, mode=Mode.STATIC),
            BlockSensitivity(block="b", share=0.09, rmse=0.002, mode=Mode.DYNAMIC),
            BlockSensitivity(block="c", share=0.09, rmse=0.002, mode=Mode.STATIC),
            BlockSensitivity(block="c", share=0.09, rmse=0.006, mode=Mode.DYNAMIC),
        ],
        min_int8_share=0.9,
    )
    assert found == [(), ("c",)]


def test_blocks_that_are_in_float_already_are_not_counted() -> None:
    made = plan(layer("a.fc", 90), layer("b.dw", 10, Kind.DEPTHWISE)).without(["b.dw"], Mode.WEIGHT)
    assert blocks_of(made) == pytest.approx({"a": 0.9})


def test_returned_weights_stay_int8_where_the_format_has_that() -> None:
    made = plan(layer("a.fc", 6), layer("b.dw", 2, Kind.DEPTHWISE), layer("c.fc", 2))

    def supports(layer: Layer) -> tuple[Mode, ...]:
        stored = (Mode.WEIGHT,) if layer.kind is Kind.LINEAR else ()
        return (Mode.STATIC, *stored, Mode.FLOAT)

    def modes(*allowed: Mode) -> list[Mode]:
        found = return_blocks(made, ["a", "b.dw"], supports=supports, allowed=allowed)
        return [entry.mode for entry in found.layers]

    assert modes(Mode.STATIC, Mode.WEIGHT) == [Mode.WEIGHT, Mode.FLOAT, Mode.STATIC]
    assert modes(Mode.STATIC) == [Mode.FLOAT, Mode.FLOAT, Mode.STATIC]


def test_ranges_per_image_come_first_only_where_there_are_any() -> None:
    both = ranges_per_image(lambda _layer: (Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT))
    none = ranges_per_image(lambda _layer: (Mode.WEIGHT, Mode.STATIC))
    assert both(layer("a.fc", 1)) == (Mode.DYNAMIC, Mode.STATIC, Mode.WEIGHT)
    assert none(layer("a.fc", 1)) == (Mode.WEIGHT, Mode.STATIC)


@pytest.mark.parametrize("name", ["mspt", "ensemble"])
def test_the_mean_error_leaves_the_score(name: str) -> None:
    images = np.random.default_rng(3).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    scorer = prepare_scorer(lively(name), 64)
    made = plan_of(scorer, images, Mode.STATIC)
    wanted = score_images(scorer, images)
    before = score_images(fake_quantize(scorer, made), images) - wanted
    found = correct_score(scorer, made, images, wanted)
    after = score_images(fake_quantize(scorer, made), images) - wanted
    assert found == pytest.approx(before.mean())
    assert abs(before.mean()) > 1e-4
    assert abs(after.mean()) < 1e-5


def test_a_tensor_is_a_share_of_its_images_largest_magnitude() -> None:
    module = Flow()
    for values in ([-1.0, 4.0], [-3.0, 2.0], [0.5, 0.25]):
        module.add(torch.tensor(values), torch.Generator().manual_seed(0))
    assert module.relative == Range(low=-1.0, high=1.0)
    only = Flow()
    for values in ([-1.0, 4.0], [0.0, 0.0], [-0.25, 0.5]):
        only.add(torch.tensor(values), torch.Generator().manual_seed(0))
    assert only.relative == Range(low=-0.5, high=1.0)


def test_ranking_finds_the_spoilt_block() -> None:
    images = np.random.default_rng(1).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    scorer = network()
    made = plan_of(scorer, images, Mode.STATIC)
    spoilt = QuantizationPlan(
        layers=tuple(
            LayerPlan(
                layer=entry.layer,
                mode=entry.mode,
                input=Range(low=-1e4, high=1e4)
                if entry.layer.kind is Kind.DEPTHWISE
                else entry.input,
                output=entry.output,
            )
            for entry in made.layers
        )
    )
    found = rank_blocks(scorer, spoilt, observe(scorer, images), images)
    worst = max(found, key=lambda entry: entry.rmse)
    assert worst.block == "network.2"
    assert sum(entry.share for entry in found) < 1  # the head is not a candidate


def test_everything_in_float_is_the_float_network() -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 12, 12, 3), dtype=np.uint8)
    scorer = network()
    made = plan_of(scorer, images, Mode.FLOAT)
    np.testing.assert_array_equal(
        score_images(fake_quantize(scorer, made), images), score_images(scorer, images)
    )
