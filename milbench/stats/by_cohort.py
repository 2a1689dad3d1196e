"""By cohort: the tables of an analysis with means over tasks, of every cohort and over all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.stats.across import overall_draws, sign_flip_p
from milbench.stats.crossed import generator, interval, p_value, superiority
from milbench.stats.grid import Grid
from milbench.stats.multiplicity import holm
from milbench.stats.scores import summary

Floats = NDArray[np.float64]

ALL = "all"
"""Name that stands for the mean over cohorts."""

COHORT_COLUMNS = [
    "dataset", "model", "title", "score", "sd", "low", "high", "n_tasks", "n_undefined", "n_missing", "n_cells",
]  # fmt: skip
OVERALL_COLUMNS = ["model", "title", "score", "low", "high", "low_fixed", "high_fixed", "n_cohorts"]
PAIR_COLUMNS = [
    "dataset", "model_a", "model_b", "delta", "low", "high", "p", "p_holm", "superiority", "p_sign_flip",
]  # fmt: skip


class Cohort(NamedTuple):
    """Means over the tasks of one cohort.

    Attributes
    ----------
    rows : one per model, `COHORT_COLUMNS`.
    draws : [B, M], models as in `rows`; [0, M] where no task is large enough for an interval.
    """

    rows: pd.DataFrame
    draws: Floats

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return str(self.rows["dataset"].iloc[0])

    def scores(self, models: Sequence[str]) -> Floats:
        """[M], NaN for a model that is not here."""
        return np.asarray(self.rows.set_index("model")["score"].reindex(list(models)), dtype=float)

    def draws_of(self, models: Sequence[str]) -> Floats:
        """[B, M], NaN for a model that is not here."""
        table = pd.DataFrame(self.draws, columns=list(self.rows["model"]))
        return np.asarray(table.reindex(columns=list(models)), dtype=float)


def cohort(grid: Grid, slides: pd.DataFrame, kept: Sequence[str], drawn: Floats) -> Cohort:
    """Means over the `kept` tasks of one dataset, with draws.

    Parameters
    ----------
    slides : the scores of the dataset, at the level that the kind prints.
    drawn : the draws, of `milbench.stats.drawn.drawn`.
    """
    means = summary(slides[slides["task"].isin(kept)]).set_index("model")
    rows = []
    for column, (model, title) in enumerate(zip(grid.models, grid.titles, strict=True)):
        known = means.loc[model] if model in means.index else {"n_missing": 0, "n_cells": 0}
        numbers = [known.get(name, np.nan) for name in ("mean", "sd")]
        counts = [int(known.get(name, 0)) for name in COHORT_COLUMNS[-4:]]
        rows.append((grid.dataset, model, title, *numbers, *interval(drawn[:, column]), *counts))
    return Cohort(pd.DataFrame(rows, columns=COHORT_COLUMNS), drawn)


class Overall(NamedTuple):
    """Means over cohorts.

    Attributes
    ----------
    rows : one per model, `OVERALL_COLUMNS`.
    scores : [D, M] of the cohorts that every model has.
    draws : [B, M] with cohorts drawn too; [0, M] for a single cohort, or where one has no interval.
    """

    rows: pd.DataFrame
    scores: Floats
    draws: Floats


def overall(cohorts: Sequence[Cohort], titles: dict[str, str], seed: int) -> Overall:
    """Means over the cohorts that every model has.

    Parameters
    ----------
    titles : of every model, by name, in order.
    """
    models = list(titles)
    used = [one for one in cohorts if not np.isnan(one.scores(models)).any()]
    scores = np.array([one.scores(models) for one in used]).reshape(len(used), len(models))
    none = np.empty((0, len(models)))
    if used and all(len(one.draws) for one in used):
        stacked = np.array([one.draws_of(models) for one in used])  # [D, B, M]
        fixed, drawn = stacked.mean(axis=0), overall_draws(stacked, generator(seed)) if len(used) > 1 else none
    else:
        fixed = drawn = none
    means = scores.mean(axis=0) if used else np.full(len(models), np.nan)
    rows = [
        (model, title, means[m], *interval(drawn[:, m]), *interval(fixed[:, m]), len(used))
        for m, (model, title) in enumerate(titles.items())
    ]
    return Overall(pd.DataFrame(rows, columns=OVERALL_COLUMNS), scores, drawn)


def pair_table(cohorts: Sequence[Cohort], over: Overall) -> pd.DataFrame:
    """Every unordered pair of models in every cohort, and over all where there are two cohorts or more."""
    models = list(over.rows["model"])
    parts = [_pairs(one.name, models, one.scores(models), one.draws_of(models)) for one in cohorts]
    if len(over.scores) > 1:
        table = _pairs(ALL, models, over.scores.mean(axis=0), over.draws)
        pairs = combinations(range(len(models)), 2)
        table["p_sign_flip"] = [sign_flip_p(over.scores[:, a] - over.scores[:, b]) for a, b in pairs]
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _pairs(dataset: str, models: Sequence[str], scores: Floats, draws: Floats) -> pd.DataFrame:
    rows = []
    for a, b in combinations(range(len(models)), 2):
        differences = draws[:, a] - draws[:, b]
        rows.append((
            dataset, models[a], models[b], scores[a] - scores[b], *interval(differences), p_value(differences),
            np.nan, superiority(differences), np.nan,
        ))  # fmt: skip
    table = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    table["p_holm"] = holm(table["p"])
    return table
