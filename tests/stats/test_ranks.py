"""Ranks, wins and adjusted p values against SciPy, scikit-posthocs and hand counts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scikit_posthocs import posthoc_wilcoxon
from scipy.stats import friedmanchisquare, wilcoxon
from statsmodels.stats.multitest import multipletests

from milbench.stats.multiplicity import benjamini_hochberg, holm
from milbench.stats.ranks import rank_models


def table(values: object) -> pd.DataFrame:
    frame = pd.DataFrame(np.asarray(values, dtype=float))
    return frame.rename(columns=dict(enumerate("abcdefgh")))


@pytest.fixture
def aurocs() -> pd.DataFrame:
    return table(np.random.default_rng(0).random((12, 4)) + np.array([0, 0.1, 0.3, 0.6]))


def test_friedman_and_pairwise_wilcoxon_with_holm_are_scipys_and_posthocs(aurocs: pd.DataFrame) -> None:
    ranks = rank_models(aurocs)
    assert (ranks.friedman_statistic, ranks.friedman_p) == pytest.approx(tuple(friedmanchisquare(*aurocs.to_numpy().T)))
    long = aurocs.melt(var_name="model", value_name="auroc")
    expected = posthoc_wilcoxon(long, val_col="auroc", group_col="model", zero_method="pratt", p_adjust="holm")
    np.testing.assert_allclose(ranks.wilcoxon_p, expected.loc[list("abcd"), list("abcd")])


def test_wins_ties_and_losses_are_counted_and_the_best_has_the_lowest_rank() -> None:
    ranks = rank_models(table([[0.5, 0.6], [0.7, 0.7], [0.4, 0.9]]))
    assert ranks.wins.loc["b", "a"] == ranks.losses.loc["a", "b"] == 2
    assert ranks.ties.loc["a", "b"] == 1
    assert ranks.mean_ranks.to_dict() == {"a": pytest.approx(5.5 / 3), "b": pytest.approx(3.5 / 3)}
    assert ranks.mean_difference.loc["b", "a"] == pytest.approx(0.2)


def test_rounding_alone_makes_no_winner() -> None:
    assert rank_models(table([[0.1 + 0.2, 0.3], [0.5, 0.5]])).ties.loc["a", "b"] == 2


def test_models_that_always_tie_have_p_one_and_no_friedman() -> None:
    ranks = rank_models(table(np.full((4, 3), 0.6)))
    assert (ranks.wilcoxon_p == 1).all(axis=None)
    assert np.isnan(ranks.friedman_p)


def test_two_models_have_no_friedman_but_a_wilcoxon() -> None:
    values = np.random.default_rng(1).random((8, 2))
    ranks = rank_models(table(values))
    assert np.isnan(ranks.friedman_p)
    assert ranks.wilcoxon_p.loc["a", "b"] == pytest.approx(wilcoxon(values[:, 0] - values[:, 1]).pvalue)


def test_cells_with_an_undefined_score_are_left_out_and_too_few_give_none(aurocs: pd.DataFrame) -> None:
    aurocs.iloc[3, 1] = np.nan
    assert rank_models(aurocs).n_cells == 11
    assert rank_models(aurocs[["a"]]) is None
    assert rank_models(aurocs.iloc[2:4]) is None


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_those_of_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], atol=1e-12)


def test_holm_steps_down_and_benjamini_hochberg_up_past_undefined_values() -> None:
    p = [0.01, np.nan, 0.04, 0.03]
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.03, np.nan, 0.04, 0.04])
    assert np.isnan(holm([np.nan])).all()
    assert len(holm([])) == len(benjamini_hochberg([])) == 0
