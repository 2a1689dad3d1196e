"""Kaplan-Meier, log-rank and tau against recorded lifelines and scikit-survival, and against statsmodels."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, endpoint_golden, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from milbench.metrics import censoring_survival, kaplan_meier, log_rank, tau

DATA, GOLDEN = endpoint_golden("ipcw"), endpoint_golden("km_logrank")
TRAIN = floats(DATA["train_time"]), floats(DATA["train_event"])
TIME, EVENT, RISK = floats(DATA["test_time"]), floats(DATA["test_event"]), floats(DATA["risk"])


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(1, 12, n).astype(float),
        rng.integers(0, 2, n).astype(float),
        rng.integers(0, 2, n).astype(float),
    )


def test_the_curve_equals_the_recorded_ones() -> None:
    curve = kaplan_meier(TIME, EVENT)
    np.testing.assert_allclose(curve.at(floats(GOLDEN["km_times"])), GOLDEN["km_sksurv"], atol=EXACT)
    np.testing.assert_allclose(curve.at(floats(GOLDEN["km_times"])), GOLDEN["km_lifelines"], atol=EXACT)
    assert curve.median() == GOLDEN["median_survival_lifelines"]


def test_g_of_the_training_side_equals_scikit_survivals_and_not_lifelines_tie_rule() -> None:
    recorded = DATA["G_train sksurv"]
    values = censoring_survival(*TRAIN).at(floats(recorded["times"]))
    np.testing.assert_allclose(values, recorded["G"], atol=EXACT)
    assert np.abs(values - DATA["G_train lifelines fitted on flipped events"]).max() > 1e-3


def test_tau_is_the_largest_training_time_with_a_tenth_still_uncensored() -> None:
    time, event = TRAIN
    censoring = censoring_survival(time, event)
    last = tau(time, event)
    assert last in time
    assert censoring.at(last) >= 0.1
    assert (censoring.at(time[time > last]) < 0.1).all()
    ten = np.arange(1.0, 11)
    assert tau(ten, np.zeros(10)) == 9, "G is one tenth there, whatever the rounding"
    assert tau(np.ones(3), np.ones(3)) == 1, "without censoring G stays 1"
    assert np.isnan(tau(np.ones(3), np.zeros(3)))


def test_log_rank_of_groups_below_and_above_the_median_risk_equals_the_recorded_one() -> None:
    high = floats(GOLDEN["median_risk"] < RISK)
    result = log_rank(TIME, EVENT, high)
    assert (int((1 - high).sum()), int(high.sum())) == (GOLDEN["n_low"], GOLDEN["n_high"])
    for package in ("lifelines", "sksurv"):
        assert result.chi2 == pytest.approx(GOLDEN[f"logrank_chi2_{package}"], abs=EXACT)
        assert result.p == pytest.approx(GOLDEN[f"logrank_p_{package}"], abs=EXACT)
    assert np.isnan(GOLDEN["all risks equal"])
    assert np.isnan(log_rank(TIME, EVENT, np.zeros(100)).p), "all risks equal: one group is empty"


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 60))
def test_curve_and_log_rank_equal_statsmodels_with_ties(seed: int, n: int) -> None:
    time, event, group = drawn(seed, n)
    event[0], group[:2] = 1, (0, 1)
    oracle = SurvfuncRight(time, event)
    np.testing.assert_allclose(kaplan_meier(time, event).at(oracle.surv_times), oracle.surv_prob, atol=EXACT)
    result = log_rank(time, event, group)
    if result.chi2 == result.chi2:
        chi2, p = survdiff(time, event, group)
        assert (result.chi2, result.p) == pytest.approx((chi2, p), abs=1e-9)
    assert result.observed.sum() == event.sum() == pytest.approx(result.expected.sum())


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_a_weight_of_two_equals_the_patient_twice(seed: int, n: int) -> None:
    time, event, group = drawn(seed, n)
    w = np.random.default_rng(seed).integers(0, 3, n)
    twice = [np.repeat(column, w) for column in (time, event, group)]
    for curve in (kaplan_meier, censoring_survival):
        weighted, copied = curve(time, event, w.astype(float)), curve(*twice[:2])
        np.testing.assert_array_equal(weighted.times, copied.times)
        np.testing.assert_allclose(weighted.values, copied.values, atol=EXACT)
    assert tau(time, event, weights=w) == pytest.approx(tau(*twice[:2]), nan_ok=True)
    weighted, copied = log_rank(time, event, group, w.astype(float)), log_rank(*twice)
    assert (weighted.chi2, weighted.p) == pytest.approx((copied.chi2, copied.p), nan_ok=True)


def test_a_curve_is_not_known_after_its_last_time_unless_it_has_ended() -> None:
    open_end = kaplan_meier(np.array([1.0, 2, 3]), np.array([1.0, 0, 0]))
    np.testing.assert_allclose(open_end.at(np.array([0.5, 1, 3, 3.1, np.nan])), [1, 2 / 3, 2 / 3, np.nan, np.nan])
    ended = kaplan_meier(np.array([1.0, 2]), np.array([1.0, 1]))
    assert ended.at(np.array([2.0, 99])).tolist() == [0, 0]
    assert ended.median() == 1
    assert np.isnan(open_end.median())


def test_nothing_known_gives_nan_and_no_error() -> None:
    time, event = np.array([1.0, np.nan]), np.array([np.nan, 1.0])
    assert np.isnan(kaplan_meier(time, event).at(np.array([1.0]))).all()
    assert np.isnan(kaplan_meier(time, event).median())
    assert np.isnan(tau(time, event))
    assert np.isnan(log_rank(time, event, np.zeros(2)).chi2)


def test_log_rank_has_no_value_without_an_event_a_group_or_a_known_group() -> None:
    time, group = np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 0, 1])
    assert np.isnan(log_rank(time, np.zeros(4), group).p)
    assert np.isnan(log_rank(time, np.ones(4), np.ones(4)).p)
    assert np.isnan(log_rank(time, np.ones(4), np.array([0.0, 1, np.nan, 1])).p)
