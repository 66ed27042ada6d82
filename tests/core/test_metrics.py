"""Metrics against scipy, and what they refuse."""

import itertools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgefiqa.errors import DataError, MissingExtraError, UsageError
from edgefiqa.metrics import (
    Interval,
    Logistic,
    bootstrap_interval,
    fit_logistic,
    krcc,
    plcc,
    plcc_fitted,
    rmse,
    srcc,
)

quick = settings(max_examples=80, deadline=None)
METRICS = [srcc, plcc, krcc, rmse, plcc_fitted]
CORRELATIONS = [srcc, plcc, krcc, plcc_fitted]
Rows = list[tuple[float, float]]

# Few distinct values give many ties, floats give few.
tied = st.integers(-3, 3).map(float)
spread = st.floats(-1e3, 1e3, allow_nan=False).map(lambda v: round(v, 3))
rows = st.one_of(
    st.lists(st.tuples(tied, tied), min_size=2, max_size=60),
    st.lists(st.tuples(spread, spread), min_size=2, max_size=60),
    st.lists(st.tuples(spread, tied), min_size=2, max_size=60),
)


def columns(table: Rows) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(table).T
    return x, y


@pytest.mark.reference
@quick
@given(rows)
def test_agree_with_scipy(table: Rows) -> None:
    from scipy import stats

    x, y = columns(table)
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert plcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert krcc(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert rmse(x, y) == pytest.approx(math.sqrt(np.mean((x - y) ** 2)), rel=1e-12)


@quick
@given(rows)
def test_tau_b_from_its_definition(table: Rows) -> None:
    x, y = columns(table)
    score, x_free, y_free = 0.0, 0, 0
    for i, j in itertools.combinations(range(len(x)), 2):
        a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        score, x_free, y_free = score + a * b, x_free + abs(a), y_free + abs(b)
    expected = score / math.sqrt(x_free * y_free) if x_free and y_free else math.nan
    assert krcc(x, y) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@quick
@given(rows)
def test_symmetry_range_and_monotone_maps(table: Rows) -> None:
    x, y = columns(table)
    for metric in (srcc, plcc, krcc):
        value = metric(x, y)
        assert metric(y, x) == pytest.approx(value, abs=1e-9, nan_ok=True)
        assert metric(-x, y) == pytest.approx(-value, abs=1e-9, nan_ok=True)
        assert math.isnan(value) or -1 <= value <= 1
    for metric in (srcc, krcc):
        assert metric(x**3, y) == pytest.approx(metric(x, y), abs=1e-12, nan_ok=True)
    assert plcc(2 * x + 5, y) == pytest.approx(plcc(x, y), abs=1e-9, nan_ok=True)


@pytest.mark.reference
def test_large_tables_agree_with_scipy() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    x = rng.normal(size=30_000)
    y = np.round(x + rng.normal(size=30_000), 1)
    assert krcc(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_constant_input_is_undefined_not_zero(metric: Callable[..., float]) -> None:
    ramp, flat = [1.0, 2.0, 3.0, 4.0, 5.0], [0.1] * 5
    assert math.isnan(metric(flat, ramp))
    assert math.isnan(metric(ramp, flat))
    assert math.isnan(metric(flat, flat))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1.0, 1.0 + 2**-52], [0, 1]),
        ([0, 5e-324], [0, 1]),
        ([-1.7e308, 0, 1.7e308], [0, 1, 2]),
        ([1e-200, 2e-200, 3e-200], [1e200, 2e200, 3e200]),
    ],
)
def test_correlation_of_extreme_values(x: Sequence[float], y: Sequence[float]) -> None:
    for metric in (srcc, plcc, krcc):
        assert metric(x, y) == pytest.approx(1.0, abs=1e-12)


def test_rmse_of_large_values_and_equal_columns() -> None:
    assert rmse([3e200, 0.0], [0.0, 4e200]) == pytest.approx(5e200 / math.sqrt(2))
    assert rmse([1, 2, 3], [1, 2, 3]) == 0.0
    assert rmse([0, 0], [0, 0]) == 0.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("x", "y", "named"),
    [
        ([1, 2, 3], [1, 2], "3 and 2 values"),
        ([1], [1], "at least 2"),
        ([], [], "at least 2"),
        ([1, math.nan, 3], [1, 2, 3], "first input.*row 1"),
        ([1, 2, 3], [1, 2, math.inf], "second input.*row 2"),
        ([[1, 2], [3, 4]], [1, 2], "shape"),
        (["a", "b"], [1, 2], "not numeric"),
        ([1j, 2], [1, 2], "not numeric"),
        ([None, 2], [1, 2], "not numeric"),
        ([[1], [1, 2]], [1, 2], "not one sequence"),
        (["1", "2"], [1, 2], "not numeric"),
        (1.0, 2.0, "shape"),
    ],
)
def test_bad_input(metric: Callable[..., float], x: object, y: object, named: str) -> None:
    with pytest.raises(DataError, match=named):
        metric(x, y)


def test_integers_and_float32_are_taken() -> None:
    assert plcc([1, 2, 3], np.float32([2, 4, 6])) == pytest.approx(1.0)  # type: ignore[arg-type]
    assert srcc([True, False, True], [1, 0, 1]) == pytest.approx(1.0)


# --- the logistic map ---------------------------------------------------------------------------


def test_formula_is_vqegs() -> None:
    curve = Logistic(0.9, 0.1, 0.5, -0.2)
    x = np.linspace(-1, 2, 7)
    expected = (0.9 - 0.1) / (1 + np.exp(-(x - 0.5) / 0.2)) + 0.1
    np.testing.assert_allclose(curve(x), expected, rtol=1e-12)
    assert curve(x.reshape(7, 1)).shape == (7, 1)
    assert float(curve(0.5)) == pytest.approx(0.5)
    np.testing.assert_allclose(curve([-1e6, 1e6]), [0.1, 0.9])  # no overflow


@pytest.mark.parametrize("b4", [0.0, math.nan, math.inf])
def test_refuses_useless_parameters(b4: float) -> None:
    with pytest.raises(DataError, match="b4 not 0"):
        Logistic(1.0, 0.0, 0.5, b4)


@pytest.mark.reference
@settings(max_examples=25, deadline=None)
@given(
    low=st.floats(-2, 2),
    rise=st.floats(0.2, 5),
    falls=st.booleans(),
    middle=st.floats(-0.5, 0.5),
    width=st.floats(0.1, 0.8),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_recovers_a_logistic(
    low: float, rise: float, falls: bool, middle: float, width: float, scale: float
) -> None:
    x = np.linspace(-2, 2, 60) * scale
    ends = (low, low + rise) if falls else (low + rise, low)
    y = Logistic(*ends, middle * scale, width * scale)(x)
    np.testing.assert_allclose(fit_logistic(x, y)(x), y, atol=1e-3 * rise)
    assert plcc_fitted(x, y) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(5))
def test_fit_is_as_good_as_scipys_curve_fit(seed: int) -> None:
    from scipy.optimize import curve_fit

    rng = np.random.default_rng(seed)
    x = rng.normal(size=300)
    y = Logistic(0.9, 0.1, 0.3, 0.4)(x) + 0.05 * rng.normal(size=300)

    def vqeg(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
        return (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4))) + b2

    start = [y.max(), y.min(), x.mean(), x.std() / 4]
    best, _ = curve_fit(vqeg, x, y, p0=start, maxfev=20_000)
    assert rmse(fit_logistic(x, y)(x), y) <= rmse(vqeg(x, *best), y) * (1 + 1e-6)


@pytest.mark.reference
@settings(max_examples=40, deadline=None)
@given(rows)
def test_fitted_plcc_is_not_below_the_raw_one(table: Rows) -> None:
    x, y = columns(table)
    assume(len(x) >= 4 and np.ptp(x) > 1e-2 and np.ptp(y) > 1e-2)
    raw, fitted = abs(plcc(x, y)), plcc_fitted(x, y)
    # A fit that finds nothing is a flat curve; its PLCC is undefined or noise.
    assert raw < 0.02 or fitted >= raw - 5e-3


def test_fit_of_a_constant_label_is_constant() -> None:
    np.testing.assert_allclose(fit_logistic([1, 2, 3, 4], [0.5] * 4)([-9, 9]), 0.5)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([2] * 9, range(9))])
def test_fit_refuses(x: Sequence[float], y: Sequence[float]) -> None:
    with pytest.raises(DataError, match="at least 4 rows and x not constant"):
        fit_logistic(x, list(y))


def test_missing_scipy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"edgefiqa\[train\]"):
        fit_logistic([1, 2, 3, 4], [1, 2, 3, 5])


# --- bootstrap ----------------------------------------------------------------------------------


def noisy(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    return y + rng.normal(size=n), y


def test_interval_is_reproducible_and_holds_the_value() -> None:
    x, y = noisy(200)
    first = bootstrap_interval(srcc, x, y, n=300)
    assert first == bootstrap_interval(srcc, x, y, n=300)
    assert first != bootstrap_interval(srcc, x, y, n=300, seed=1)
    assert first.low < first.value == srcc(x, y) < first.high
    narrow = bootstrap_interval(srcc, x, y, n=300, confidence=0.5)
    assert first.low < narrow.low < narrow.high < first.high
    assert (narrow.confidence, narrow.n, narrow.n_undefined) == (0.5, 300, 0)


def test_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    interval = bootstrap_interval(np.mean, values, n=2000)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_rows_stay_paired() -> None:
    x, y = noisy(100)

    def difference(a: np.ndarray, b: np.ndarray, labels: np.ndarray) -> float:
        return srcc(a, labels) - srcc(b, labels)

    same = bootstrap_interval(difference, x, 2 * x + 1, y, n=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = bootstrap_interval(difference, y + 0.01 * x, x, y, n=100)
    assert better.low > 0
    table = np.column_stack([x, y])  # rows of any shape
    assert bootstrap_interval(lambda t: srcc(t[:, 0], t[:, 1]), table, n=20) == (
        bootstrap_interval(srcc, x, y, n=20)
    )


def test_undefined_resamples_are_counted() -> None:
    interval = bootstrap_interval(srcc, [1, 2, 3], [1, 2, 3], n=500)
    assert interval.value == interval.low == interval.high == 1.0
    assert 20 < interval.n_undefined < 100  # 3 of 27 resamples are constant
    nothing = bootstrap_interval(srcc, [1, 1, 1], [1, 2, 3], n=50)
    assert nothing.n_undefined == 50
    assert all(math.isnan(v) for v in (nothing.value, nothing.low, nothing.high))


@pytest.mark.parametrize("options", [{"n": 0}, {"confidence": 0}, {"confidence": 1}])
def test_bootstrap_refuses_options(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="0 < confidence < 1"):
        bootstrap_interval(srcc, [1, 2], [1, 2], **options)


@pytest.mark.parametrize("arrays", [([1, 2], [1, 2, 3]), ([1], [1]), (1.0, 2.0)])
def test_bootstrap_refuses_arrays(arrays: tuple[object, ...]) -> None:
    with pytest.raises(DataError, match="one length"):
        bootstrap_interval(srcc, *arrays)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0 arrays"):
        bootstrap_interval(srcc)


def test_bootstrap_is_fast_enough() -> None:
    x, y = noisy(2000)
    start = time.process_time()
    assert isinstance(bootstrap_interval(srcc, x, y), Interval)
    assert time.process_time() - start < 10
