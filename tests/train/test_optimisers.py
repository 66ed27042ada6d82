import math
from itertools import pairwise

import pytest
import torch
from tests.train.conftest import recipe_values
from timm.optim import Muon
from torch import nn

from edgefiqa.models import build
from edgefiqa.train import AveragedWeights, Lite0Scorer, TrainRecipe
from edgefiqa.train.optimisers import build_optimiser, rate_factor
from edgefiqa.train.settings import CosineSchedule, StepSchedule


def make(**changes: object) -> TrainRecipe:
    return TrainRecipe.model_validate(recipe_values(**changes))


def torch_factors(scheduler: type, steps: int, **options: object) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduler(optimiser, **options)
    factors = []
    for _ in range(steps):
        factors.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return factors


def test_steps_are_those_of_torch() -> None:
    schedule = StepSchedule(kind="step")
    found = [rate_factor(schedule, step=e * 7, steps=210, epoch=e) for e in range(30)]
    wanted = torch_factors(torch.optim.lr_scheduler.StepLR, 30, step_size=10, gamma=0.1)
    assert found == pytest.approx(wanted)
    assert rate_factor(schedule, step=0, steps=9, epoch=9.99) == 1


def test_cosine_is_that_of_torch() -> None:
    schedule = CosineSchedule(kind="cosine", floor=0.1)
    found = [rate_factor(schedule, step=step, steps=50, epoch=0) for step in range(50)]
    wanted = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, 50, T_max=50, eta_min=0.1)
    assert found == pytest.approx(wanted)


def test_warm_up_rises_to_the_peak() -> None:
    schedule = CosineSchedule(kind="cosine", warmup=10)
    factors = [rate_factor(schedule, step=step, steps=100, epoch=0) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert all(a >= b for a, b in pairwise(factors[9:]))
    assert factors[-1] == pytest.approx(0.01, abs=0.002)


def rates_by_name(model: nn.Module, recipe: TrainRecipe) -> dict[str, tuple[float, float]]:
    optimiser = build_optimiser(model, None, recipe)
    groups = {
        id(p): (group["peak"], group["weight_decay"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    return {name: groups[id(p)] for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("efficient-fiqa-student", {"head.0.weight", "head.1.bias"}),
        ("mspt", {"backbone.classifier.weight", "backbone.classifier.bias"}),
        ("ensemble", {"members.0.backbone.classifier.weight", "members.1.head.weight"}),
        ("lite0", {"head.weight", "head.bias"}),
    ],
)
def test_heads_have_their_own_rate(name: str, heads: set[str]) -> None:
    model = Lite0Scorer(pretrained=False) if name == "lite0" else build(name)
    recipe = make(rate=1e-4, head_rate=1e-2, weight_decay=0.1, decay_one_dimensional=False)
    found = rates_by_name(model, recipe)
    fast = {key for key, (rate, _) in found.items() if rate == 1e-2}
    assert heads <= fast
    assert len(fast) <= 4
    for key, parameter in model.named_parameters():
        assert found[key][1] == (0.1 if parameter.ndim > 1 else 0.0)


def test_decay_holds_for_all_by_default() -> None:
    found = rates_by_name(nn.BatchNorm2d(3), make(weight_decay=1e-6))
    assert set(found.values()) == {(1e-3, 1e-6)}


def test_optimisers_by_name() -> None:
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "muon": Muon}
    for name, kind in kinds.items():
        assert type(build_optimiser(nn.Linear(2, 2), None, make(optimiser=name))) is kind


def test_muon_takes_orthogonal_steps_of_adamws_length() -> None:
    """Of matrices that are not the head; SVD says which step is orthogonal."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"backbone": nn.Linear(24, 12), "head": nn.Linear(24, 12)})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    images = torch.randn(50, 24)
    sum(layer(images).square().mean() for layer in model.values()).backward()
    optimiser = build_optimiser(model, None, make(optimiser="muon", rate=1e-2))
    optimiser.step()
    steps = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    gradient = model.get_parameter("backbone.weight").grad
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    step = steps["backbone.weight"]
    # Newton and Schulz's iteration brings singular values near 1, not to it.
    wanted = torch.full((12,), 1e-2 * 0.2 * math.sqrt(24))
    torch.testing.assert_close(torch.linalg.svdvals(step), wanted, rtol=0.3, atol=0)
    assert nn.functional.cosine_similarity(step.flatten(), -(left @ right).flatten(), dim=0) > 0.98
    for name in ("head.weight", "head.bias", "backbone.bias"):
        # NAdamW: the first step is 1 + β1 times as long as the rate, for each parameter.
        assert steps[name].abs().numpy() == pytest.approx(1.9e-2, rel=0.01)


def test_average_follows_the_weights() -> None:
    model = nn.BatchNorm1d(2)
    average = AveragedWeights(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.get_buffer("num_batches_tracked").fill_(7)
    for step in range(2000):
        average.update(model, step)
    assert torch.allclose(average.model.state_dict()["weight"], torch.full((2,), 3.0))
    assert average.model.state_dict()["num_batches_tracked"] == 7
    assert not any(p.requires_grad for p in average.model.parameters())


def test_average_is_the_recurrence() -> None:
    model = nn.Linear(1, 1)
    average = AveragedWeights(model, decay=0.5)
    expected = model.weight.item()
    for step, value in enumerate([1.0, -2.0, 4.0, 8.0]):
        nn.init.constant_(model.weight, value)
        average.update(model, step)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    assert average.model.get_parameter("weight").item() == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(expected)
