import numpy as np
import pytest
import torch
from scipy import stats

from edgefiqa.train import pearson, plcc_loss, score_loss


@pytest.mark.parametrize("seed", range(5))
def test_against_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 32)).astype(np.float32)
    r = stats.pearsonr(x, y).statistic
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    assert pearson(tx, ty).item() == pytest.approx(r, abs=1e-6)
    assert plcc_loss(tx, ty).item() == pytest.approx((1 - r) / 2, abs=1e-6)
    expected = np.mean((x - y) ** 2) + 0.7 * (1 - r) / 2
    assert score_loss(tx, ty, plcc_weight=0.7).item() == pytest.approx(expected, abs=1e-5)


def test_bounds() -> None:
    x = torch.linspace(0, 1, 9)
    assert plcc_loss(x, 3 * x + 2).item() == pytest.approx(0, abs=1e-6)
    assert plcc_loss(x, -x).item() == pytest.approx(1, abs=1e-6)
    assert score_loss(x, x).item() == pytest.approx(0, abs=1e-6)


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
def test_finite_on_constant_batches(predicted: list[float], target: list[float]) -> None:
    x = torch.tensor(predicted, requires_grad=True)
    loss = score_loss(x, torch.tensor(target))
    loss.backward()
    assert torch.isfinite(loss)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    # Only the squared error pulls: a constant batch has no correlation to improve.
    assert x.grad.abs().max() < 10
    assert loss.item() == pytest.approx(np.mean((np.subtract(predicted, target)) ** 2) + 0.5)


def test_gradient_reaches_both_terms() -> None:
    x = torch.tensor([0.1, 0.4, 0.2, 0.8], requires_grad=True)
    y = torch.tensor([0.2, 0.3, 0.9, 0.7])
    score_loss(x, y).backward()
    assert x.grad is not None
    for i in range(4):
        step = torch.zeros(4)
        step[i] = 1e-2
        with torch.no_grad():
            slope = (score_loss(x + step, y) - score_loss(x - step, y)) / 2e-2
        assert x.grad[i].item() == pytest.approx(slope.item(), abs=2e-3)
