from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from edgefiqa.errors import UnknownNameError, UsageError
from edgefiqa.train import LOSSES, build_loss, pearson, plcc_loss, score_loss

NAMES = ["mse_plcc", "mse_corr", "l1_rank", "huber", "mse"]


def expected(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """The definitions, in numpy and scipy, pair by pair."""
    error = np.abs(x - y)
    squared, r = np.mean(error**2), stats.pearsonr(x, y).statistic
    if name == "mse_plcc":
        return float(squared + 0.7 * (1 - r) / 2)
    if name == "mse_corr":
        return float(squared + 0.7 * (1 - r))
    if name == "huber":
        return float(np.mean(np.where(error < 0.2, error**2 / 2, 0.2 * (error - 0.1))))
    if name == "mse":
        return float(squared)
    costs = []
    for i, j in combinations(range(len(x)), 2):
        better, worse = (i, j) if y[i] > y[j] else (j, i)
        costs.append(max(0.0, min(0.3, abs(y[i] - y[j])) - (x[better] - x[worse])))
    return float(error.mean() + 0.7 * np.mean(costs))


OPTIONS = {
    "mse_plcc": {"weight": 0.7},
    "mse_corr": {"weight": 0.7},
    "l1_rank": {"weight": 0.7, "margin": 0.3},
    "huber": {"delta": 0.2},
    "mse": {},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_against_numpy_and_scipy(name: str, seed: int) -> None:
    x, y = np.random.default_rng(seed).normal(size=(2, 17)).astype(np.float32)
    found = build_loss(name, OPTIONS[name])(torch.from_numpy(x), torch.from_numpy(y))
    assert found.item() == pytest.approx(expected(name, x, y), abs=1e-5)


def test_registry_is_complete() -> None:
    assert LOSSES.names() == ["mse_plcc", "mse_corr", "l1_rank", "huber", "mse"]
    with pytest.raises(UnknownNameError, match="did you mean 'huber'"):
        build_loss("hubber")
    with pytest.raises(UsageError, match=r"margins.*Allowed: weight, margin"):
        build_loss("l1_rank", {"margins": 1.0})


def test_correlation_against_scipy() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 32)).astype(np.float32)
    r = stats.pearsonr(x, y).statistic
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    assert pearson(tx, ty).item() == pytest.approx(r, abs=1e-6)
    assert plcc_loss(tx, ty).item() == pytest.approx((1 - r) / 2, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_perfect_scores_cost_nothing(name: str) -> None:
    x = torch.linspace(0, 1, 9)
    assert build_loss(name)(x, x).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("predicted", "target"),
    [
        ([0.3], [0.9]),
        ([0.5, 0.5, 0.5], [0.1, 0.2, 0.9]),
        ([0.1, 0.2, 0.9], [0.5, 0.5, 0.5]),
        ([0.5, 0.5], [0.5, 0.5]),
        ([1e-12, 0.0, 2e-12], [0.1, 0.2, 0.9]),
    ],
)
def test_finite_on_constant_batches(name: str, predicted: list[float], target: list[float]) -> None:
    x = torch.tensor(predicted, requires_grad=True)
    loss = build_loss(name)(x, torch.tensor(target))
    loss.backward()
    assert torch.isfinite(loss)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() < 10
    # A constant batch has no correlation to improve: half a unit (eq. 6), or nothing (MSECorrLoss).
    squared = np.mean(np.subtract(predicted, target) ** 2)
    constant = {"mse_plcc": squared + 0.5, "mse_corr": squared, "mse": squared}
    if name in constant:
        assert loss.item() == pytest.approx(constant[name])


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    x = torch.tensor([0.1, 0.4, 0.2, 0.8], requires_grad=True)
    y, loss = torch.tensor([0.2, 0.3, 0.9, 0.7]), build_loss(name)
    loss(x, y).backward()
    assert x.grad is not None
    for i in range(4):
        step = torch.zeros(4)
        step[i] = 1e-3
        with torch.no_grad():
            slope = (loss(x + step, y) - loss(x - step, y)) / 2e-3
        assert x.grad[i].item() == pytest.approx(slope.item(), abs=2e-3)


def test_bfloat16_scores_are_compared_in_float32() -> None:
    x = torch.tensor([0.501, 0.502, 0.9]).bfloat16()
    assert score_loss(x, torch.tensor([0.1, 0.2, 0.3])).dtype == torch.float32
