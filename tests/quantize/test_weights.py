"""Weights on their grid: any plain quantiser finds the same codes; biases make up for the rest."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.quantize.plans import plan_of
from torch import nn

from edgefiqa.convert.prepare import ExportScorer
from edgefiqa.quantize.plan import Mode, QuantizationPlan
from edgefiqa.quantize.statistics import describe_layers, observe
from edgefiqa.quantize.weights import on_grid, round_weights

FINITE = st.floats(-8, 8, width=32)


@given(arrays(np.float32, (4, 9), elements=FINITE))
def test_plain_quantiser_reproduces_the_codes(values: np.ndarray) -> None:
    rounded = on_grid(torch.from_numpy(values)).numpy()
    scale = np.abs(rounded).max(1, keepdims=True) / 127
    codes = np.divide(rounded, scale, out=np.zeros_like(rounded), where=scale > 1e-30)
    np.testing.assert_allclose(codes, np.round(codes), atol=2e-3)
    assert np.abs(codes).max() <= 127.01


@given(arrays(np.float32, (3, 20), elements=FINITE))
def test_no_worse_than_rounding_by_the_largest(values: np.ndarray) -> None:
    scale = np.maximum(np.abs(values).max(1, keepdims=True) / 127, 1e-30)
    plain = np.round(values / scale) * scale
    rounded = on_grid(torch.from_numpy(values)).numpy()
    assert ((rounded - values) ** 2).sum() <= ((plain - values) ** 2).sum() * (1 + 1e-4) + 1e-12


def correlated(groups: int, size: int, seed: int) -> torch.Tensor:
    """The covariance of inputs that mostly move together, one of which never moves."""
    mixing = np.random.default_rng(seed).normal(size=(groups, size, size)) ** 3
    mixing[:, 0] = 0
    return torch.from_numpy(mixing @ mixing.transpose(0, 2, 1) / size)


@given(arrays(np.float32, (4, 9), elements=FINITE), st.sampled_from([1, 2, 4]), st.integers(0, 9))
def test_rounding_for_the_output_keeps_the_grid_and_the_output(
    values: np.ndarray, groups: int, seed: int
) -> None:
    covariance = correlated(groups, 9, seed)
    alone, together = (
        on_grid(torch.from_numpy(values), weighting).double().numpy()
        for weighting in (None, covariance)
    )
    scale = np.abs(alone).max(1, keepdims=True) / 127
    codes = np.divide(together, scale, out=np.zeros_like(together), where=scale > 1e-30)
    np.testing.assert_allclose(codes, np.round(codes), atol=2e-3)
    np.testing.assert_allclose(np.abs(together).max(1), np.abs(alone).max(1), rtol=1e-6)
    by_row = covariance.repeat_interleave(4 // groups, 0).numpy()
    before, after = (
        np.einsum("oi,oij,oj->o", rounded - values, by_row, rounded - values)
        for rounded in (alone, together)
    )
    assert (after <= before * (1 + 1e-3) + 1e-9).all()


def test_rounding_for_the_output_halves_its_error() -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    covariance = correlated(1, 64, seed=0)
    alone, together = (
        on_grid(weight, weighting).double() - weight for weighting in (None, covariance)
    )
    before, after = (((lost @ covariance[0]) * lost).sum() for lost in (alone, together))
    assert after < 0.5 * before


def network() -> ExportScorer:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=0),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Linear(8, 6),
        nn.Linear(6, 1),
        nn.Flatten(0),
    )
    return ExportScorer(layers, nn.Identity(), []).eval()


def test_biases_take_back_the_mean_error() -> None:
    images = np.random.default_rng(1).integers(0, 256, (16, 12, 12, 3), dtype=np.uint8)
    scorer = network()
    observed = observe(scorer, images)
    plan = plan_of(scorer, images, Mode.WEIGHT)
    outputs: dict[str, dict[str, torch.Tensor]] = {}
    for name, changed in {
        "float": scorer,
        "plain": round_weights(scorer, plan),
        "corrected": round_weights(scorer, plan, observed),
    }.items():
        layer = changed.get_submodule("network.0")
        with torch.inference_mode():
            pixels = torch.from_numpy(images).float().permute(0, 3, 1, 2)
            outputs[name] = {"first": layer(pixels).mean((0, 2, 3))}
    plain, corrected = (
        (outputs[name]["first"] - outputs["float"]["first"]).abs().max()
        for name in ("plain", "corrected")
    )
    assert corrected < 0.05 * plain


def test_float_layers_are_left_alone() -> None:
    images = np.zeros((2, 12, 12, 3), np.uint8)
    scorer = network()
    plan = plan_of(scorer, images, Mode.WEIGHT)
    free = QuantizationPlan(layers=plan.layers).without(["network"])
    same = round_weights(scorer, free)
    for layer in describe_layers(scorer, torch.from_numpy(images[:1])):
        before, after = (model.state_dict()[f"{layer.name}.weight"] for model in (scorer, same))
        assert torch.equal(before, after) is (free[layer.name].mode is Mode.FLOAT)
