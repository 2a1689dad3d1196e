"""Quadratic kappa against recorded scikit-learn."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, endpoint_golden, floats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from milbench.metrics import predicted_class, quadratic_kappa

CASES = endpoint_golden("multiclass")["cases"]
GOLDEN = {name: case for name, case in CASES.items() if "p" in case}


def near(value: float) -> object:
    return pytest.approx(value, abs=EXACT, nan_ok=True)


@pytest.mark.parametrize("name", GOLDEN)
def test_kappa_over_all_grades_equals_the_recorded_one(name: str) -> None:
    y, p = floats(GOLDEN[name]["y"]), floats(GOLDEN[name]["p"])
    assert quadratic_kappa(y, predicted_class(p), p.shape[1]) == near(GOLDEN[name]["quadratic kappa labels"])


def test_a_grade_that_nobody_has_keeps_its_place_on_the_scale() -> None:
    y, called = np.array([0.0, 0, 2, 2, 2, 0]), np.array([0.0, 2, 2, 2, 0, 0])
    y[0], called[0] = 3, 3
    assert quadratic_kappa(y, called, 4) == near(cohen_kappa_score(y, called, weights="quadratic", labels=range(4)))
    assert quadratic_kappa(y, called, 4) != near(cohen_kappa_score(y, called, weights="quadratic"))


def test_all_equal_and_right_has_no_kappa_and_a_constant_call_has_none_above_chance() -> None:
    recorded = CASES["kappa, constant raters"]
    assert quadratic_kappa(np.full(5, 2.0), np.full(5, 2.0), 4) == near(recorded["same"])
    assert quadratic_kappa(np.full(5, 2.0), np.full(5, 1.0), 4) == near(recorded["different"])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(3, 6))
def test_weighted_kappa_equals_scikit_learns_and_a_weight_of_two_the_row_twice(seed: int, n: int, grades: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.r_[0.0, grades - 1, rng.integers(0, grades, n)]
    called, w = np.clip(y + rng.integers(-1, 2, n + 2), 0, grades - 1), rng.integers(0, 3, n + 2)
    w[:2] = 1
    kappa = quadratic_kappa(y, called, grades, w.astype(float))
    assert kappa == near(cohen_kappa_score(y, called, weights="quadratic", labels=range(grades), sample_weight=w))
    assert kappa == near(quadratic_kappa(np.repeat(y, w), np.repeat(called, w), grades))


def test_kappa_leaves_unknown_labels_out_and_is_nan_without_any_or_with_a_nan_call() -> None:
    y, called = np.array([0.0, 1, 2, 2]), np.array([0.0, 1, 1, 2])
    assert quadratic_kappa(np.append(y, np.nan), np.append(called, 0), 3) == quadratic_kappa(y, called, 3)
    assert np.isnan(quadratic_kappa(y, np.array([0.0, np.nan, 1, 2]), 3))
    assert np.isnan(quadratic_kappa(np.full(2, np.nan), np.zeros(2), 3))
