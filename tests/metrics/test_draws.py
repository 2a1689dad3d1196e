"""Metrics of many draws against the weighted metric of each draw."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milbench.metrics import (
    auroc,
    auroc_draws,
    concordance,
    concordance_draws,
    draws,
    kappa_draws,
    macro_auroc,
    macro_auroc_draws,
    mae,
    mae_draws,
    pearson,
    pearson_draws,
    per_class_auroc,
    per_class_auroc_draws,
    quadratic_kappa,
    r2,
    r2_draws,
)

Metric = Callable[..., float]
SEEDS = st.integers(0, 10_000)
B = 30


def one_by_one(metric: Metric, weights: np.ndarray, predictions: np.ndarray, *labels: np.ndarray) -> np.ndarray:
    """The metric of every draw and row of predictions [m, n, ...]: [B, m, ...]."""
    return np.array([[metric(*labels, row, weights=w.astype(float)) for row in predictions] for w in weights])


def weights_of(seed: int, n: int, *, whole: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), B)
    return counts if whole else counts * rng.random(n)


def kappa_of_four(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
    return quadratic_kappa(labels, predicted, 4, weights)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 40), st.booleans())
def test_concordance_of_draws_equals_that_of_each(seed: int, n: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    time, event = rng.integers(1, 9, n).astype(float), rng.integers(0, 2, n).astype(float)
    time[0] = np.nan
    risk, weights = np.round(rng.normal(size=(3, n)), 1), weights_of(seed, n, whole=whole)
    expected = one_by_one(concordance, weights, risk, time, event)
    np.testing.assert_allclose(concordance_draws(weights, time, event, risk), expected, atol=1e-12)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 40), st.booleans())
def test_auroc_of_draws_equals_that_of_each(seed: int, n: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, 2, n).astype(float), weights_of(seed, n, whole=whole)
    labels[0] = np.nan
    scores = np.round(rng.random((3, n)), 1)
    np.testing.assert_allclose(
        auroc_draws(weights, labels, scores), one_by_one(auroc, weights, scores, labels), atol=1e-12
    )


@settings(deadline=None)
@given(SEEDS, st.integers(3, 40))
def test_macro_auroc_of_draws_equals_that_of_each_and_is_nan_where_a_draw_lacks_a_class(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, 3, n).astype(float), weights_of(seed, n, whole=True)
    p = np.round(rng.dirichlet(np.ones(3), (2, n)), 1)
    for draws_of, metric in ((macro_auroc_draws, macro_auroc), (per_class_auroc_draws, per_class_auroc)):
        np.testing.assert_allclose(draws_of(weights, labels, p), one_by_one(metric, weights, p, labels), atol=1e-12)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.sampled_from([0.0, 1e3]), st.booleans())
def test_moments_of_draws_equal_those_of_each_even_far_from_zero(seed: int, n: int, far: float, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, weights = np.round(rng.normal(size=n), 1) + far, weights_of(seed, n, whole=whole)
    predictions = np.round(rng.normal(size=(3, n)), 1) + far
    predictions[1] = 0.3
    labels[0] = np.nan
    for draws_of, metric in ((pearson_draws, pearson), (r2_draws, r2), (mae_draws, mae)):
        expected = one_by_one(metric, weights, predictions, labels)
        np.testing.assert_allclose(draws_of(weights, labels, predictions), expected, rtol=1e-9, atol=1e-9)


def test_an_outlier_that_a_draw_lacks_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = np.append(rng.normal(size=30), 1e9), np.append(rng.normal(size=30), 1e9)
    weights = weights_of(1, 31, whole=True)
    weights[:10, -1] = 0
    expected = one_by_one(pearson, weights, predictions[None], labels)[:, 0]
    assert (expected[:10] < 0.9).all()
    np.testing.assert_allclose(pearson_draws(weights, labels, predictions), expected, atol=1e-12)
    expected = one_by_one(r2, weights, predictions[None], labels)[:, 0]
    np.testing.assert_allclose(r2_draws(weights, labels, predictions), expected, rtol=1e-12)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.booleans())
def test_kappa_of_draws_equals_that_of_each(seed: int, n: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, weights = rng.integers(0, 4, n).astype(float), weights_of(seed, n, whole=whole)
    grades = np.clip(labels + rng.integers(-1, 2, (3, n)), 0, 3)
    grades[0] = 2
    labels[0] = np.nan
    expected = one_by_one(kappa_of_four, weights, grades, labels)
    np.testing.assert_allclose(kappa_draws(weights, labels, grades, 4), expected, atol=1e-12)


EVERY: list[Callable[..., np.ndarray]] = [
    lambda w, y, p: concordance_draws(w, y + 1.0, np.ones(len(y)), p),
    lambda w, y, p: auroc_draws(w, (y > 1).astype(float), p),
    lambda w, y, p: macro_auroc_draws(w, y, np.stack([p, -p, p**2], axis=-1)),
    pearson_draws,
    r2_draws,
    mae_draws,
    lambda w, y, p: kappa_draws(w, y, np.clip(np.round(p), 0, 2), 3),
]


@pytest.mark.parametrize("draws_of", EVERY)
def test_predictions_keep_their_axes_and_one_that_is_nan_gives_nan_alone(draws_of: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    labels, predictions = np.arange(12.0) % 3, rng.normal(1, 1, (2, 5, 12))
    weights = rng.integers(1, 3, (7, 12))
    values = draws_of(weights, labels, predictions)
    assert values.shape == (7, 2, 5)
    assert np.isfinite(values).all()
    single = draws_of(weights, labels, predictions[1, 3])
    np.testing.assert_allclose(single, values[:, 1, 3], atol=1e-12)
    predictions[0, 2, 4] = np.nan
    broken = draws_of(weights, labels, predictions)
    assert np.isnan(broken[:, 0, 2]).all()
    assert np.isfinite(np.delete(broken.reshape(7, 10), 2, axis=1)).all()


@pytest.mark.parametrize("draws_of", EVERY)
def test_without_a_known_label_or_a_drawn_row_there_is_no_value(draws_of: Callable[..., np.ndarray]) -> None:
    predictions = np.random.default_rng(0).random((2, 4))
    assert np.isnan(draws_of(np.ones((3, 4), dtype=int), np.full(4, np.nan), predictions)).all()
    assert np.isnan(draws_of(np.zeros((3, 4), dtype=int), np.arange(4.0) % 3, predictions)).all()


def test_steps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    time, event, risk = rng.random(50), rng.integers(0, 2, 50).astype(float), rng.random(50)
    weights = weights_of(3, 50, whole=True)
    whole = concordance_draws(weights, time, event, risk)
    monkeypatch.setattr(draws, "BYTES_PER_STEP", 1)
    monkeypatch.setattr(draws, "FEWEST_DRAWS", 1)
    assert (concordance_draws(weights, time, event, risk) == whole).all()


def test_float32_is_used_only_where_it_is_exact() -> None:
    assert draws.exact_dtype(np.full((2, 3), 2), np.full((2, 3), 2)) is np.float32
    assert draws.exact_dtype(np.full((2, 3), 2), np.full((2, 3), 0.5)) is np.float64
    assert draws.exact_dtype(np.full((1, 1), 3000), np.full((1, 1), 3000)) is np.float64
    assert draws.exact_dtype(np.ones((1, 100)), np.ones((1, 100)), terms=1000) is np.float64
