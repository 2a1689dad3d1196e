"""Variance of c-indices against the jackknife, DeLong and new patients."""

import numpy as np
import pytest

from milbench.metrics import concordance
from milbench.stats.delong import delong, delong_interval, difference_p
from milbench.stats.harrell import harrell


def cohort(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    latent = rng.normal(size=n)
    time, end = rng.exponential(np.exp(-latent)), rng.exponential(1.5, n)
    return (
        np.minimum(time, end),
        (time <= end).astype(float),
        np.stack([latent + rng.normal(size=n), rng.normal(size=n)]),
    )


def test_values_are_harrells_and_the_covariance_is_nearly_the_jackknifes() -> None:
    time, event, risks = cohort(np.random.default_rng(0), 200)
    result = harrell(time, event, risks)
    assert result.values.tolist() == [concordance(time, event, risk) for risk in risks]
    keep = ~np.eye(200, dtype=bool)
    left_out = np.array([[concordance(time[rows], event[rows], risk[rows]) for rows in keep] for risk in risks])
    jackknife = 199 * np.cov(left_out, ddof=0)
    np.testing.assert_allclose(result.covariance, jackknife, rtol=0.03, atol=1e-5)


def test_the_derivative_is_that_of_the_weighted_c() -> None:
    time, event, risks = cohort(np.random.default_rng(1), 30)
    step, moves = 1e-6, []
    for i in range(30):
        bump = step * (np.arange(30) == i)
        high, low = (concordance(time, event, risks[0], np.ones(30) + sign * bump) for sign in (1, -1))
        moves.append((high - low) / (2 * step))
    assert harrell(time, event, risks).covariance[0, 0] == pytest.approx(30 / 29 * np.square(moves).sum(), rel=1e-6)


def test_where_all_events_share_one_time_it_is_nearly_delong() -> None:
    rng = np.random.default_rng(2)
    event = (rng.random(300) < 0.4).astype(float)
    time, risks = np.where(event == 1, 1.0, 2.0), event + rng.normal(size=(2, 300))
    binary, result = delong(event, risks), harrell(time, event, risks)
    np.testing.assert_allclose(result.values, binary.aurocs, atol=1e-12)
    np.testing.assert_allclose(result.covariance, binary.covariance, rtol=0.01, atol=1e-6)


def test_the_variance_is_that_of_new_patients() -> None:
    rng = np.random.default_rng(3)
    results = [harrell(*cohort(rng, 80)) for _ in range(400)]
    spread = np.cov([result.values for result in results], rowvar=False)
    mean = np.mean([result.covariance for result in results], axis=0)
    assert np.sqrt(np.diag(mean)) == pytest.approx(np.sqrt(np.diag(spread)), rel=0.12)


def test_intervals_and_p_are_those_of_delong() -> None:
    time, event, risks = cohort(np.random.default_rng(4), 200)
    values, covariance = harrell(time, event, np.stack([*risks, risks[0]]))
    low, high = delong_interval(values[0], covariance[0, 0])
    assert 0.5 < low < values[0] < high < 1
    assert difference_p(values, covariance, 0, 1) < 0.02
    assert difference_p(values, covariance, 0, 2) == 1


def test_unknown_patients_are_left_out_and_what_is_undefined_is_nan() -> None:
    time, event, risks = cohort(np.random.default_rng(5), 40)
    whole = harrell(time, event, risks)
    longer = harrell(np.append(time, np.nan), np.append(event, 1.0), np.append(risks, [[np.nan]] * 2, axis=1))
    np.testing.assert_array_equal(longer.covariance, whole.covariance)
    risks[0, 3] = np.nan
    broken = harrell(time, event, risks)
    assert np.isnan([broken.values[0], broken.covariance[0, 0], broken.covariance[0, 1]]).all()
    assert broken.covariance[1, 1] == pytest.approx(whole.covariance[1, 1])
    assert np.isnan(harrell(time, np.zeros(40), risks).values).all()
    assert np.isnan(harrell(time[:1], event[:1], risks[:, :1]).covariance).all()
