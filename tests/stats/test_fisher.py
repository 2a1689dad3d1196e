"""Fisher's interval against recorded SciPy, and the covariance of correlated r against drawing patients."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, endpoint_golden

from milbench.metrics import pearson
from milbench.stats.fisher import correlations, fisher_interval

GOLDEN = endpoint_golden("regression")


@pytest.mark.parametrize("name", GOLDEN)
def test_the_interval_of_r_equals_the_recorded_one(name: str) -> None:
    y, p = np.array(GOLDEN[name]["true"]), np.array(GOLDEN[name]["pred"])
    _, _, low, high = GOLDEN[name]["pearson r, p, fisher low, high"]
    assert fisher_interval(pearson(y, p), len(y)) == pytest.approx((low, high), abs=EXACT, nan_ok=True)


def test_a_perfect_correlation_is_a_point() -> None:
    assert fisher_interval(1.0, 10) == (1, 1)
    assert fisher_interval(-1.0, 10) == (-1, -1)


def test_the_covariance_of_two_correlations_is_that_of_many_test_sets() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((2000, 200))
    shared = rng.standard_normal(y.shape)
    predictions = np.stack([y + shared + 0.5 * rng.standard_normal(y.shape), 0.5 * y + shared], axis=1)
    found = [correlations(labels, each) for labels, each in zip(y, predictions, strict=True)]
    true = np.cov(np.array([one.values for one in found]).T)
    np.testing.assert_allclose(np.mean([one.covariance for one in found], axis=0), true, rtol=0.08)


def test_a_model_without_a_correlation_leaves_the_others_theirs() -> None:
    rng = np.random.default_rng(1)
    y = rng.standard_normal(40)
    found = correlations(y, np.array([y + rng.standard_normal(40), np.ones(40)]))
    assert np.isnan(found.values).tolist() == [False, True]
    assert np.isnan(found.covariance).tolist() == [[False, True], [True, True]]
