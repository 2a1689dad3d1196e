"""Across: from tasks to a cohort, and from cohorts to all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milbench.metrics.weights import ratio
from milbench.stats.crossed import draw_counts, fold_scores, mean_over_folds, mean_scores
from milbench.stats.grid import TaskScores

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST_FLIPPED = 20
"""Cohorts up to which all sign patterns are enumerated."""


def cohort_draws(tasks: Sequence[TaskScores], rng: np.random.Generator, draws: int) -> Floats:
    """Mean score over `tasks` of one cohort and kind in every draw of patients and folds: [draws, M].

    Patients are drawn once and reused for all tasks, since tasks share them; not within classes, since tasks
    differ in who is positive. A (task, fold) whose draw lacks a class is left out of that draw, for all models.
    """
    n_folds = len(tasks[0].tested)
    patients, folds = draw_counts(rng, tasks[0].n_patients, draws), draw_counts(rng, n_folds, draws)
    return weighted_mean(tasks, patients, folds)


def weighted_mean(tasks: Sequence[TaskScores], patients: Counts, folds: Counts) -> Floats:
    """Mean score over `tasks` inside a fold, then over folds, under patient weights [B, P] and fold weights [B, F]: [B, M]."""
    means = _means_over_folds(tasks, patients, folds)
    if means is not None:
        return means
    total = np.zeros((len(patients), len(tasks[0].scores), len(tasks[0].tested)))
    known = np.zeros_like(total)
    for task in tasks:
        scores = fold_scores(task, patients)
        defined = ~np.isnan(scores)
        total += np.where(defined, scores, 0)
        known += defined
    return mean_over_folds(ratio(total, known), folds)


def _means_over_folds(tasks: Sequence[TaskScores], patients: Counts, folds: Counts) -> Floats | None:
    """The same, folds first: which tasks a draw lacks is then the same in all its folds, so the order does not matter.

    None where a task needs the score of every fold.
    """
    total = np.zeros((len(patients), len(tasks[0].scores)))
    known = np.zeros_like(total)
    for task in tasks:
        means = mean_scores(task, patients, folds)
        if means is None:
            return None
        defined = ~np.isnan(means)
        total += np.where(defined, means, 0)
        known += defined
    return ratio(total, known)


def overall_draws(cohorts: Floats, rng: np.random.Generator) -> Floats:
    """Mean over cohorts drawn with replacement, each with a draw of its own: [D, B, M] to [B, M].

    The same cohorts and draws for all models. A cohort drawn twice brings two different draws of its patients.
    """
    n_cohorts, draws, _ = cohorts.shape
    total: Floats = np.zeros(cohorts.shape[1:])
    for _ in range(n_cohorts):
        total += cohorts[rng.integers(0, n_cohorts, draws), rng.permutation(draws)]
    return np.asarray(total / n_cohorts)


def sign_flip_p(differences: Floats) -> float:
    """Exact two-sided p that cohort differences [D] are as often below as above zero; NaN where one is NaN.

    Under no difference every pattern of signs is equally likely, so p is at least 2 / 2^D: five cohorts cannot
    go below 0.0625, six reach 0.031. Above `MOST_FLIPPED` cohorts, 100,000 seeded patterns stand in for all.
    """
    n_cohorts = len(differences)
    if not n_cohorts or np.isnan(differences).any():
        return float("nan")
    if n_cohorts > MOST_FLIPPED:
        flips = np.random.default_rng(0).choice([-1.0, 1.0], (100_000, n_cohorts))
        flips[0] = 1  # the pattern that was seen
    else:
        flips = 1.0 - 2 * (np.arange(2**n_cohorts)[:, None] >> np.arange(n_cohorts) & 1)
    sums = np.abs(flips @ differences)
    return float(np.mean(sums >= np.abs(differences.sum()) - 1e-12))
