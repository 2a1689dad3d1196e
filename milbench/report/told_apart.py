"""Told apart: the one verdict on every pair of models that rank figures, matrix and pair table share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from milbench.stats.analysis import Analysis
from milbench.stats.by_cohort import ALL
from milbench.stats.metric import AUROC, PrimaryMetric

LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class ToldApart:
    """Which pairs of models the report tells apart.

    Attributes
    ----------
    p : models × models. p of the pair table: crossed bootstrap of the difference in mean score, Holm over the pairs.
        NaN where a pair was not tested.
    note : what a reader of rank figures must know of the tests: that none can be significant, where that is so.
    can_tell : whether any pair could have got a p under 0.05.
    metric : what was compared.
    """

    p: pd.DataFrame
    note: str
    can_tell: bool
    metric: PrimaryMetric = AUROC

    def apart(self, first: str, second: str) -> bool:
        """Whether the two models are told apart."""
        return bool(self.p.loc[first, second] < LEVEL)


def told_apart(analysis: Analysis) -> ToldApart | None:
    """The verdict on the models that have ranks; None where nothing is ranked."""
    if analysis.ranks is None:
        return None
    models = list(analysis.ranks.mean_ranks.index)
    pairs = _pairs(analysis)
    table = pd.DataFrame(np.nan, models, models)
    for row in pairs[pairs["model_a"].isin(models) & pairs["model_b"].isin(models)].itertuples():
        table.loc[row.model_a, row.model_b] = table.loc[row.model_b, row.model_a] = row.p_holm
    n_pairs = int(pairs["p"].notna().sum())
    least = min(n_pairs / (analysis.n_draws + 1), 1.0) if n_pairs else 1.0
    notes = [_bootstrap_note(n_pairs, analysis.n_draws, least), _wilcoxon_note(analysis.ranks)]
    return ToldApart(table, " ".join(filter(None, notes)), least < LEVEL, analysis.metric)


def _pairs(analysis: Analysis) -> pd.DataFrame:
    """Rows of the pair table over all that is ranked: over the cohorts, or of the only one."""
    datasets = analysis.cohorts["dataset"].unique()
    return analysis.pairs[analysis.pairs["dataset"] == (ALL if len(datasets) > 1 else datasets[0])]


def _bootstrap_note(n_pairs: int, draws: int, least: float) -> str:
    if not n_pairs:
        return "No pair was tested: too few test patients of a class."
    if least < LEVEL:
        return ""
    return (
        f"With {draws:,} bootstrap draws and {n_pairs} pairs no corrected p can fall under 0.05 (least: {least:.2f}). "
        "Make more draws with --draws."
    )


def _wilcoxon_note(ranks: Any) -> str:
    n_pairs = len(ranks.mean_ranks) * (len(ranks.mean_ranks) - 1) // 2
    least = min(n_pairs * smallest_wilcoxon_p(ranks.n_cells), 1.0)
    if least < LEVEL:
        return ""
    cells = f"{ranks.n_cells} (cohort, task) cells"
    return f"Wilcoxon's test cannot tell models apart here: with {cells} and {n_pairs} pairs its least corrected p is {least:.2f}."


def smallest_wilcoxon_p(n_cells: int) -> float:
    """Least two-sided p of the exact signed-rank test over so many cells: all differences of one sign."""
    return float(min(2.0 / 2.0**n_cells, 1.0))
