"""Told apart: rank figures say what the table of pairs says."""

import pandas as pd
import pytest
from pages_for_tests import known_analysis, known_scores

from milbench.report.told_apart import told_apart
from milbench.stats.analysis import Analysis


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return known_analysis(known_scores(cohorts=1))


def test_the_verdict_on_a_pair_is_that_of_the_table_of_pairs(analysis: Analysis) -> None:
    verdict = told_apart(analysis)
    assert verdict is not None
    rows = analysis.pairs[analysis.pairs["dataset"] == analysis.cohorts["dataset"].iloc[0]]
    assert len(rows) > 0
    for row in rows.itertuples():
        assert verdict.apart(row.model_a, row.model_b) == verdict.apart(row.model_b, row.model_a) == (row.p_holm < 0.05)


def test_too_few_draws_are_said(analysis: Analysis) -> None:
    few = told_apart(Analysis(**{**vars(analysis), "n_draws": 10}))
    assert few is not None
    assert not few.can_tell
    assert "--draws" in few.note


def test_nothing_tested_is_said(analysis: Analysis) -> None:
    none = told_apart(
        Analysis(**{**vars(analysis), "pairs": analysis.pairs.assign(p=float("nan"), p_holm=float("nan"))})
    )
    assert none is not None
    assert not none.can_tell
    assert "No pair was tested" in none.note
    assert isinstance(none.p, pd.DataFrame)
