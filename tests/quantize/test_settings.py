"""Recipes load, name their faults all at once, and bounds are held."""

from pathlib import Path

import numpy as np
import pytest

from edgefiqa.errors import RecipeError
from edgefiqa.measuring.policy import load_policy
from edgefiqa.quantize.measured import FloatReference, broken_rules, measure
from edgefiqa.quantize.settings import load_recipe, recipe_names


def test_shipped_recipes() -> None:
    assert recipe_names() == [
        "dynamic_w8",
        "mixed_w8a8_srcc",
        "static_w8a8_per_channel",
        "weight_only_w8",
    ]
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.evaluation_images >= 1000
        if recipe.policy:
            load_policy(recipe.policy)


def test_default_recipe_is_strict() -> None:
    recipe = load_recipe("mixed_w8a8_srcc")
    assert recipe.min_int8_share >= 0.9
    assert recipe.max_size_ratio is not None
    assert recipe.max_size_ratio <= 0.36
    bounds = {rule.metric: rule for rule in load_policy(recipe.policy or "").rules}
    assert bounds["delta_srcc"].max == 0.001
    assert bounds["p99_error"].max == 0.02


def test_faults_are_named_together(tmp_path: Path) -> None:
    path = tmp_path / "custom.yaml"
    path.write_text("name: Own!\nmodes: [int3]\nextra: 1\n")
    with pytest.raises(RecipeError, match=r"name: .*modes\.0: .*extra: "):
        load_recipe(path)
    with pytest.raises(RecipeError, match="mixed_w8a8_srcc"):
        load_recipe("no-such-recipe")


def reference(count: int = 600) -> FloatReference:
    rng = np.random.default_rng(0)
    scores = rng.random(count)
    return FloatReference(
        scores=scores,
        labels=scores + 0.05 * rng.normal(size=count),
        clusters=[str(number // 3) for number in range(count)],
    )


@pytest.mark.parametrize(
    ("shift", "noise", "broken"),
    [(0.0, 1e-4, ""), (0.004, 1e-4, "bias"), (0.0, 0.02, "p99_error")],
)
def test_policy_is_held(shift: float, noise: float, broken: str) -> None:
    float_model = reference()
    scores = (
        float_model.scores
        + shift
        + noise * np.random.default_rng(1).normal(size=len(float_model.scores))
    )
    recipe = load_recipe("mixed_w8a8_srcc")
    found = broken_rules(
        measure(scores, float_model),
        recipe=recipe,
        policy=load_policy(recipe.policy or ""),
        size_ratio=0.3,
        int8_share=0.95,
    )
    assert bool(found) is bool(broken)
    assert broken in "; ".join(found)


def test_shares_sizes_and_broken_scores_fail() -> None:
    float_model = reference()
    recipe = load_recipe("mixed_w8a8_srcc")
    policy = load_policy(recipe.policy or "")

    def broken(scores: np.ndarray, *, size: float = 0.3, share: float = 0.95) -> str:
        figures = measure(scores, float_model)
        return "; ".join(
            broken_rules(figures, recipe=recipe, policy=policy, size_ratio=size, int8_share=share)
        )

    assert broken(float_model.scores) == ""
    assert "multiply-adds in int8 ≥ 90%: 89.0%" in broken(float_model.scores, share=0.89)
    assert "size ≤ 0.36 × fp32: 0.370" in broken(float_model.scores, size=0.37)
    wrong = float_model.scores.copy()
    wrong[3] = np.nan
    assert "1 of 600 scores are not finite" in broken(wrong)
