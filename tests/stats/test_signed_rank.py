"""The signed-rank test, Friedman's test, midranks and tails against SciPy's, with ties, zeros and every rule for p."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, friedmanchisquare, rankdata, wilcoxon

from milbench.stats.midranks import midranks
from milbench.stats.multiplicity import benjamini_hochberg
from milbench.stats.ranks import friedman
from milbench.stats.signed_rank import signed_rank_p

KINDS = ("distinct", "ties", "zeros")


def differences(kind: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "distinct":
        return rng.normal(0.3, 1, n)
    drawn = rng.integers(1, 5, n) * rng.choice([-1.0, 1.0], n, p=[0.3, 0.7])
    return np.where(rng.random(n) < 0.3, 0.0, drawn) if kind == "zeros" else drawn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 5, 9, 13, 14, 30, 50, 51, 80])
def test_p_is_scipys_with_pratts_zeros(kind: str, n: int) -> None:
    for seed in range(3):
        values = differences(kind, n, seed)
        expected = wilcoxon(values, zero_method="pratt").pvalue if values.any() else 1.0
        assert signed_rank_p(values) == pytest.approx(expected, rel=1e-12)


def test_an_unknown_difference_has_no_p() -> None:
    assert np.isnan(signed_rank_p(np.array([0.1, np.nan, 0.2])))


@pytest.mark.parametrize("seed", range(5))
def test_midranks_are_scipys_bit_for_bit_also_where_a_row_holds_nan(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 6, (4, 11)).astype(float)
    rows[1, 3] = np.nan
    np.testing.assert_array_equal(midranks(rows), rankdata(rows, axis=1))
    np.testing.assert_array_equal(midranks(rows[0]), rankdata(rows[0]))
    assert midranks(np.empty((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("seed", range(5))
def test_friedman_with_ties_is_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 4, (8, 5)).astype(float)
    assert friedman(values) == pytest.approx(tuple(friedmanchisquare(*values.T)), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_benjamini_hochberg_is_scipys_bit_for_bit_and_leaves_nan_out(seed: int) -> None:
    p = np.random.default_rng(seed).random(12) ** 3
    expected = false_discovery_control(p, method="bh")
    np.testing.assert_array_equal(benjamini_hochberg(p), expected)
    np.testing.assert_array_equal(benjamini_hochberg([np.nan, *p]), [np.nan, *expected])
    assert np.isnan(benjamini_hochberg([np.nan])).all()
