"""Ranks: models compared over (dataset, task) cells. Description only, since cells of a cohort share patients."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from milbench.stats.midranks import midranks, tie_sizes
from milbench.stats.multiplicity import holm
from milbench.stats.signed_rank import signed_rank_p

Floats = NDArray[np.float64]

DECIMALS = 12
"""Differences that rounding alone makes are ties."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """How models stand to one another over (dataset, task) cells.

    Attributes
    ----------
    mean_ranks : by model, 1 is best, ties share.
    friedman_statistic, friedman_p : NaN for fewer than three models.
    n_cells : (dataset, task) cells compared.
    wilcoxon_p : models × models, signed-rank over cells, Holm over the pairs; 1 on the diagonal.
    wins, ties, losses : models × models, cells in which the row's model is above, level with, below the column's.
    mean_difference : models × models, mean score of the row's model minus that of the column's.
    """

    mean_ranks: pd.Series
    friedman_statistic: float
    friedman_p: float
    n_cells: int
    wilcoxon_p: pd.DataFrame
    wins: pd.DataFrame
    ties: pd.DataFrame
    losses: pd.DataFrame
    mean_difference: pd.DataFrame


def rank_models(scores: pd.DataFrame, *, one_scale: bool = True) -> Ranks | None:
    """Ranks over the rows of `scores` without a NaN; None with fewer than two models or two such rows.

    Parameters
    ----------
    scores : (dataset, task) cells × models, higher is better.
    one_scale : whether scores of different cells may be averaged; else what is not made of ranks inside cells is NaN.
    """
    whole = scores.dropna()
    if whole.shape[1] < 2 or len(whole) < 2:
        return None
    models, values = whole.columns, whole.to_numpy(dtype=float)
    differences = np.round(values[:, :, None] - values[:, None, :], DECIMALS)  # [C, M, M]
    square = {"index": models, "columns": models}
    statistic, p = _friedman(values)
    unknown = np.full((len(models), len(models)), np.nan)
    return Ranks(
        mean_ranks=pd.Series(midranks(-np.round(values, DECIMALS)).mean(axis=0), index=models),
        friedman_statistic=statistic,
        friedman_p=p,
        n_cells=len(whole),
        wilcoxon_p=pd.DataFrame(_wilcoxon(differences) if one_scale else unknown, **square),
        wins=pd.DataFrame((differences > 0).sum(axis=0), **square),
        ties=pd.DataFrame((differences == 0).sum(axis=0), **square),
        losses=pd.DataFrame((differences < 0).sum(axis=0), **square),
        mean_difference=pd.DataFrame(differences.mean(axis=0) if one_scale else unknown, **square),
    )


def _friedman(values: Floats) -> tuple[float, float]:
    if values.shape[1] < 3 or (np.ptp(np.round(values, DECIMALS), axis=1) == 0).all():  # nothing to rank
        return float("nan"), float("nan")
    return friedman(np.round(values, DECIMALS))


def friedman(values: Floats) -> tuple[float, float]:
    """Friedman's chi-squared over rows [C, M], corrected for ties, and its p (Conover 1999, section 5.8).

    Written out, since `scipy.stats` takes 0.4 s to import; a test holds it against SciPy's.
    """
    n_cells, n_models = values.shape
    ranks = midranks(values)
    ties = sum(float((sizes * (sizes**2 - 1)).sum()) for sizes in map(tie_sizes, values))
    correction = 1 - ties / (n_models * (n_models**2 - 1) * n_cells)
    squares = float((ranks.sum(axis=0) ** 2).sum())
    statistic = (12 / (n_models * n_cells * (n_models + 1)) * squares - 3 * n_cells * (n_models + 1)) / correction
    return statistic, float(chdtrc(n_models - 1, statistic))


def _wilcoxon(differences: Floats) -> Floats:
    """Adjusted p of every pair, [M, M]; 1 where two models tie in every cell."""
    n_models = differences.shape[1]
    pairs = list(combinations(range(n_models), 2))
    raw = [signed_rank_p(differences[:, a, b]) for a, b in pairs]
    table = np.ones((n_models, n_models))
    for (a, b), p in zip(pairs, holm(raw), strict=True):
        table[a, b] = table[b, a] = p
    return table
