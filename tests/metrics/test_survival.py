"""Concordance, AUROC and Brier score over time against recorded scikit-survival and lifelines."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, SINGLE, endpoint_golden, floats
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.metrics import (
    auroc,
    brier_at,
    brier_times,
    cases_and_controls,
    censoring_survival,
    concordance,
    integrated_brier,
    mean_time_dependent_auc,
    survival,
    survival_in_bins,
    time_dependent_auc,
    uno_concordance,
)

PAIRS, DATA = endpoint_golden("cindex"), endpoint_golden("ipcw")
CENSORING = censoring_survival(floats(DATA["train_time"]), floats(DATA["train_event"]))
TIME, EVENT, RISK = floats(DATA["test_time"]), floats(DATA["test_event"]), floats(DATA["risk"])
AT, SURVIVAL = floats(DATA["td-AUC"]["times"]), floats(DATA["survival at times"])
BEYOND = np.where(np.arange(100) == 99, 79.0, TIME)
"""The last patient followed beyond the last training time."""


def near(value: object) -> object:
    return pytest.approx(value, abs=EXACT, nan_ok=True)


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.integers(1, 12, n).astype(float),
        rng.integers(0, 2, n).astype(float),
        rng.integers(-3, 4, n).astype(float),
    )


def by_definition(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    won, pairs = 0.0, 0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                won += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return won / pairs if pairs else float("nan")


@pytest.mark.parametrize("name", PAIRS)
def test_harrells_c_equals_the_recorded_ones_with_exact_ties(name: str) -> None:
    case = PAIRS[name]
    c = concordance(floats(case["time"]), floats(case["event"]), floats(case["risk"]))
    assert c == near(float("nan") if isinstance(case["lifelines"], str) else case["lifelines"])
    if "1e-9 apart" not in name:  # scikit-survival calls these equal
        assert c == near(case["scikit-survival"]["c"] if isinstance(case["scikit-survival"], dict) else float("nan"))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_harrells_c_equals_its_definition_and_a_weight_of_two_the_patient_twice(seed: int, n: int) -> None:
    time, event, risk = drawn(seed, n)
    w = np.random.default_rng(seed).integers(0, 3, n)
    assert concordance(time, event, risk) == near(by_definition(time, event, risk))
    twice = [np.repeat(column, w) for column in (time, event, risk)]
    assert concordance(time, event, risk, w.astype(float)) == near(concordance(*twice))


def test_harrells_c_is_the_same_in_steps_of_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = concordance(TIME, EVENT, RISK)
    monkeypatch.setattr(survival, "PAIRS_PER_STEP", 1)
    assert concordance(TIME, EVENT, RISK) == near(whole)


def test_copies_of_one_patient_are_no_pair() -> None:
    assert np.isnan(concordance(np.ones(1), np.ones(1), np.ones(1), np.array([5.0])))


@pytest.mark.parametrize("tau", DATA["ipcw c"])
def test_unos_c_equals_the_recorded_ones(tau: str) -> None:
    recorded = DATA["ipcw c"][tau]
    c = uno_concordance(TIME, EVENT, RISK, CENSORING, np.inf if tau == "None" else float(tau))
    assert c == near(recorded["scikit-survival"]["c"])
    assert c == pytest.approx(recorded["torchsurv float32"], abs=3 * SINGLE)


def test_a_test_event_after_the_last_training_time_needs_tau() -> None:
    recorded = DATA["test beyond train, event"]
    event = np.where(np.arange(100) == 99, 1.0, EVENT)
    assert uno_concordance(BEYOND, event, RISK, CENSORING, 48) == near(recorded["sksurv ipcw tau 48"])
    assert np.isnan(uno_concordance(BEYOND, event, RISK, CENSORING)), "scikit-survival raises"
    assert integrated_brier(BEYOND, event, SURVIVAL, AT, CENSORING) == near(recorded["sksurv IBS"])


def test_a_test_patient_censored_after_the_last_training_time_needs_no_tau() -> None:
    recorded = DATA["test beyond train, censored"]
    event = np.where(np.arange(100) == 99, 0.0, EVENT)
    assert uno_concordance(BEYOND, event, RISK, CENSORING) == near(recorded["sksurv ipcw tau None"])
    aucs = time_dependent_auc(BEYOND, event, RISK, AT, CENSORING)
    np.testing.assert_allclose(aucs, recorded["sksurv td-AUC"], atol=EXACT)
    assert integrated_brier(BEYOND, event, SURVIVAL, AT, CENSORING) == near(recorded["sksurv IBS"])


def test_auroc_over_time_equals_the_recorded_one() -> None:
    recorded = DATA["td-AUC"]
    aucs = time_dependent_auc(TIME, EVENT, RISK, AT, CENSORING)
    np.testing.assert_allclose(aucs, recorded["sksurv"], atol=EXACT)
    np.testing.assert_allclose(aucs, recorded["torchsurv cumulative"], atol=SINGLE)
    assert mean_time_dependent_auc(TIME, EVENT, aucs, AT) == near(recorded["sksurv_mean"])


def test_without_censoring_auroc_at_a_time_is_that_of_having_had_the_event() -> None:
    time, _, risk = drawn(3, 40)
    event = np.ones(40)
    (value,) = time_dependent_auc(time, event, risk, np.array([5.0]), censoring_survival(time, event))
    assert value == near(auroc((time <= 5).astype(float), risk))


def test_brier_score_equals_the_recorded_one() -> None:
    recorded = DATA["Brier"]
    np.testing.assert_allclose(brier_at(TIME, EVENT, SURVIVAL, AT, CENSORING), recorded["sksurv"], atol=EXACT)
    np.testing.assert_allclose(recorded["torchsurv"]["brier"], recorded["sksurv"], atol=SINGLE)
    assert integrated_brier(TIME, EVENT, SURVIVAL, AT, CENSORING) == near(recorded["IBS"])


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_ipcw_metrics_with_a_weight_of_two_equal_the_patient_twice(seed: int) -> None:
    w = np.random.default_rng(seed).integers(0, 3, 100)
    twice = [np.repeat(column, w) for column in (TIME, EVENT, RISK)]
    weights = w.astype(float)
    c = uno_concordance(TIME, EVENT, RISK, CENSORING, 36, weights)
    assert c == near(uno_concordance(*twice, CENSORING, 36))
    aucs = time_dependent_auc(TIME, EVENT, RISK, AT, CENSORING, weights)
    copied = time_dependent_auc(*twice, AT, CENSORING)
    np.testing.assert_allclose(aucs, copied, atol=EXACT)
    assert mean_time_dependent_auc(TIME, EVENT, aucs, AT, weights) == near(
        mean_time_dependent_auc(*twice[:2], copied, AT)
    )
    whole = integrated_brier(TIME, EVENT, SURVIVAL, AT, CENSORING, weights)
    assert whole == near(integrated_brier(*twice[:2], np.repeat(SURVIVAL, w, axis=0), AT, CENSORING))


def test_survival_inside_a_bin_is_that_of_the_last_finished_bin() -> None:
    at_edges, edges = np.array([[0.8, 0.5], [0.6, 0.1]]), np.array([10.0, 20])
    values = survival_in_bins(at_edges, edges, np.array([0.0, 9.9, 10, 19, 20, 99]))
    assert values.tolist() == [[1, 1, 0.8, 0.8, 0.5, 0.5], [1, 1, 0.6, 0.6, 0.1, 0.1]]


def test_the_brier_score_is_integrated_over_observed_times_until_tau() -> None:
    time, event = np.array([3.0, 1, 2, 2, 9, np.nan]), np.array([1.0, 0, 1, 1, 1, 1])
    assert brier_times(time, event, 5).tolist() == [1, 2, 3]
    assert brier_times(time, event, 99).tolist() == [1, 2, 3], "nobody is followed beyond the last"
    assert np.isnan(integrated_brier(TIME, EVENT, SURVIVAL[:, :1], AT[:1], CENSORING))


def test_those_with_an_event_and_those_beyond_are_counted() -> None:
    time, event = np.array([1.0, 2, 3, 4, np.nan]), np.array([1.0, 0, 1, 1, 1])
    assert cases_and_controls(time, event, 3) == (2, 1)


def test_unknown_times_are_left_out_and_a_risk_that_is_nan_gives_nan() -> None:
    time, event, risk = np.append(TIME, [np.nan, 5]), np.append(EVENT, [1, np.nan]), np.append(RISK, [np.nan, np.nan])
    assert concordance(time, event, risk) == concordance(TIME, EVENT, RISK)
    assert uno_concordance(time, event, risk, CENSORING, 36) == uno_concordance(TIME, EVENT, RISK, CENSORING, 36)
    broken, flat = np.where(np.arange(100) == 7, np.nan, RISK), np.where(np.arange(100)[:, None] == 7, np.nan, SURVIVAL)
    weights = (np.arange(100) != 7).astype(float)
    assert np.isnan([concordance(TIME, EVENT, broken), concordance(TIME, EVENT, broken, weights)]).all()
    assert np.isnan(uno_concordance(TIME, EVENT, broken, CENSORING, 36))
    assert np.isnan(time_dependent_auc(TIME, EVENT, broken, AT, CENSORING)).all()
    assert np.isnan(brier_at(TIME, EVENT, flat, AT, CENSORING)).all()


def test_without_pairs_events_or_a_known_g_there_is_no_value() -> None:
    nothing = np.full(3, np.nan)
    empty = censoring_survival(nothing, nothing)
    assert np.isnan(concordance(nothing, nothing, np.ones(3)))
    assert np.isnan(uno_concordance(TIME, EVENT, RISK, CENSORING, np.nan))
    assert np.isnan(uno_concordance(TIME, EVENT, RISK, CENSORING, TIME.min())), "no pair before tau"
    assert np.isnan(uno_concordance(TIME, EVENT, RISK, empty))
    assert np.isnan(time_dependent_auc(TIME, EVENT, RISK, np.array([0.5, 999]), CENSORING)).all()
    assert np.isnan(brier_at(TIME, EVENT, SURVIVAL, AT, empty)).all()
    assert np.isnan(mean_time_dependent_auc(TIME, EVENT, np.array([0.5]), np.array([0.5]))), "no fall of survival"
