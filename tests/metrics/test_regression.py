"""Metrics of scores against recorded SciPy and scikit-learn, and where they are undefined."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, endpoint_golden, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import r2_score

from milbench.metrics import ccc, mae, pearson, r2, rmse, spearman

GOLDEN = endpoint_golden("regression")
METRICS = (pearson, spearman, r2, mae, rmse, ccc)
RECORDED = {spearman: "spearman", r2: "r2", mae: "mae", rmse: "rmse", ccc: "concordance correlation"}


def near(value: float) -> object:
    return pytest.approx(value, abs=EXACT, rel=EXACT, nan_ok=True)


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "constant truth"])
def test_every_metric_equals_the_recorded_one(name: str) -> None:
    y, p = floats(GOLDEN[name]["true"]), floats(GOLDEN[name]["pred"])
    assert pearson(y, p) == near(GOLDEN[name]["pearson r, p, fisher low, high"][0])
    for metric, key in RECORDED.items():
        assert metric(y, p) == near(GOLDEN[name][key]), key


def test_equal_labels_have_no_r2_where_scikit_learn_says_zero() -> None:
    case = GOLDEN["constant truth"]
    y, p = floats(case["true"]), floats(case["pred"])
    assert case["r2"] == 0
    assert np.isnan([r2(y, p), pearson(y, p), spearman(y, p)]).all()
    assert (mae(y, p), rmse(y, p), ccc(y, p)) == near((case["mae"], case["rmse"], case["concordance correlation"]))


def test_a_constant_is_found_even_if_its_mean_is_rounded() -> None:
    y, p = np.arange(10.0), np.full(10, 0.1 + 0.2)
    assert np.isnan([pearson(y, p), spearman(y, p), pearson(p, y)]).all()
    assert np.isnan(pearson(y, np.r_[p[:5], np.arange(5)], np.repeat([1.0, 0], 5))), "constant where it counts"
    assert ccc(y, p) == near(0)
    assert np.isnan(ccc(p, p))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40))
def test_a_weight_of_two_equals_the_row_twice_and_weighted_values_equal_libraries(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y, p, w = np.round(rng.normal(size=n), 1), np.round(rng.normal(5, 3, n)), rng.integers(0, 4, n)
    w[:2] = 1
    for metric in METRICS:
        assert metric(y, p, w.astype(float)) == near(metric(np.repeat(y, w), np.repeat(p, w))), metric.__name__
    if len(set(y[w > 0])) > 1:
        assert r2(y, p, w.astype(float)) == near(r2_score(y, p, sample_weight=w))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40))
def test_correlations_equal_scipys_with_ties_and_far_from_zero(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = np.r_[0, 1, np.round(rng.normal(size=n), 1)] + 1e4, np.r_[0, 1, rng.integers(0, 5, n)]
    assert pearson(y, p) == pytest.approx(stats.pearsonr(y, p).statistic, abs=1e-9)
    assert spearman(y, p) == near(stats.spearmanr(y, p).statistic)


def test_unknown_labels_are_left_out_and_predictions_that_are_not_finite_give_nan() -> None:
    y, p = np.array([1.0, 2, 4, 3]), np.array([1.5, 2, 2.5, 3])
    for metric in METRICS:
        assert metric(np.append(y, np.nan), np.append(p, np.nan)) == metric(y, p), metric.__name__
        assert np.isnan(metric(y, np.array([1.0, np.nan, 2, 3]))), metric.__name__
        assert np.isnan(metric(y, np.array([1.0, np.inf, 2, 3]))), metric.__name__
        assert np.isnan(metric(y, np.array([1.0, np.nan, 2, 3]), np.array([1.0, 0, 1, 1]))), metric.__name__
        assert np.isnan(metric(np.full(2, np.nan), np.ones(2))), metric.__name__
        assert np.isnan(metric(y, p, np.zeros(4))), metric.__name__


def test_numbers_too_large_to_square_give_no_warning() -> None:
    y, p = np.array([1.0, 2, 3]), np.array([-1e300, 1e300, 2e300])
    assert pearson(y, p) == pytest.approx(np.corrcoef(y, p / 1e300)[0, 1])
    assert np.isnan([r2(y, p), rmse(y, p)]).all()
    assert ccc(y, p) == near(0)
