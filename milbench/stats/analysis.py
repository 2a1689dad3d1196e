"""Analysis: everything that the report prints of finished runs, as frozen tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from milbench.stats.ranks import Ranks
from milbench.store import Run


@dataclass(frozen=True)
class Analysis:
    """Scores, intervals and comparisons of a set of runs; NaN where a number is undefined.

    The point estimate is always the slide-level test AUROC. `dataset`, `task` and `model` are names, in the order
    of their registration. Control tasks stand in the frames by task with `is_control` True, and enter no mean.

    Attributes
    ----------
    scores : one row per (dataset, model, task, fold, seed, level in {"slide", "patient"}): title, is_control,
        auroc, average_precision, balanced_accuracy, f1, sensitivity, specificity, threshold (Youden's, on that
        trial's validation rows), brier, ece. A patient's score is the mean over its slides, its label the largest.
    tasks : (dataset, task): is_control, n_slides, n_patients, n_positive, n_negative (patients of the test sides),
        prevalence (share of patients), too_small (fewer than ten positive or ten negative patients).
    cells : (dataset, task, model): title, is_control, auroc (mean over folds and seeds), sd (spread over them), low
        and high (crossed bootstrap, 95 %), n_missing, n_cells, ensemble_auroc, delong_low, delong_high (mean logit
        over folds, seeds and the patient's slides; NaN where the test sides of folds differ).
    against : (dataset, task, model) for every model but the reference: is_control, delta (model - reference), low,
        high, p, p_holm (over the models of the task), q_bh (over the signal tasks of the model), p_delong.
    cohorts : (dataset, model): title, auroc (mean over tasks in a fold and seed, then over those), sd, low, high
        (patients drawn once for all tasks, times folds), n_tasks, n_undefined, n_missing, n_cells.
    overall : (model): title, auroc (mean of the cohorts), low, high (cohorts, patients and folds drawn; NaN for a
        single cohort), low_fixed, high_fixed (the cohorts as they are), n_cohorts.
    pairs : (dataset, model_a, model_b), every unordered pair, and once more with dataset "all" where there are two
        cohorts or more: delta (a - b), low, high, p, p_holm (over the pairs of the dataset), superiority (share of
        draws with a above b, ties half), p_sign_flip (for "all"; exact over cohorts).
    ranks : description over (dataset, task) cells; None with fewer than two models or two cells.
    reference : the declared reference; None where it is not among the models.
    incomplete : (dataset, model, n_missing, n_cells) of every model that lacks cells which others have.
    left_out : the signal (dataset, task) that not all models finished; only with `complete_cases`.
    n_draws : draws of every bootstrap.
    """

    scores: pd.DataFrame
    tasks: pd.DataFrame
    cells: pd.DataFrame
    against: pd.DataFrame
    cohorts: pd.DataFrame
    overall: pd.DataFrame
    pairs: pd.DataFrame
    ranks: Ranks | None
    reference: str | None
    incomplete: tuple[tuple[str, str, int, int], ...]
    left_out: tuple[tuple[str, str], ...]
    n_draws: int


def analyse(
    runs: Sequence[Run],
    *,
    reference: str = "amil",
    draws: int = 10_000,
    seed: int = 0,
    complete_cases: bool = False,
) -> Analysis:
    """What finished runs show, with its uncertainty. Same runs and seed, same bytes.

    Parameters
    ----------
    runs : no two hold the same dataset.
    reference : the model that all others are held against, declared before the scores are seen.
    draws : of every bootstrap.
    complete_cases : leave out the (dataset, task) that not every model finished, instead of refusing.

    Raises
    ------
    StoreError : models lack cells that others have, and `complete_cases` was not asked for.
    """
    raise NotImplementedError
