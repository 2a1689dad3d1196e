"""Ensemble: one score per patient from all trainings of a model, and what it is worth on new patients.

===========  ============================  ==========================================================
kind         mean over trainings of        interval and p
===========  ============================  ==========================================================
binary       the logit                     DeLong; interval on the logit scale
multiclass   the probability of a class    DeLong's parts of all classes added per patient; logit scale
ordinal      the expected grade            bootstrap of patients inside their grades
regression   the value                     Fisher's z; p from the parts of r per patient
survival     the standardised risk         parts of c per patient, as the jackknife has them; logit scale
===========  ============================  ==========================================================

It speaks of this ensemble and of new patients, never of new trainings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from milbench.endpoints.answers import decoded_grade
from milbench.metrics import kappa_draws
from milbench.stats.crossed import Interval, by_patient, draw_within_classes, interval, p_value
from milbench.stats.delong import delong, delong_interval, difference_p, macro_delong
from milbench.stats.fisher import correlations, fisher_interval
from milbench.stats.grid import TaskScores
from milbench.stats.harrell import harrell

Floats = NDArray[np.float64]

SATURATED = 1e-7
"""Probabilities nearer to 0 or 1 than float32 tells apart have no finite logit."""


@dataclass(frozen=True, eq=False)
class EnsembleScores:
    """What the ensembles of M models reach.

    Attributes
    ----------
    task : whose scores they are.
    scores : [M].
    covariance : [M, M] of the scores; NaN for grades.
    draws : [B, M] of grades; [0, M] for other kinds.
    """

    task: TaskScores
    scores: Floats
    covariance: Floats
    draws: Floats

    def interval(self, column: int) -> Interval:
        """95 % interval of one model; NaN where the task is too small."""
        score, variance = float(self.scores[column]), float(self.covariance[column, column])
        if self.task.too_small or np.isnan(score):
            return Interval(float("nan"), float("nan"))
        if self.task.kind == "ordinal":
            return interval(self.draws[:, column])
        if self.task.kind == "regression":
            return fisher_interval(score, self.task.n_labelled)
        return delong_interval(score, variance)

    def p(self, a: int, b: int) -> float:
        """Two-sided p that models a and b have the same score; NaN where the task is too small."""
        if self.task.too_small:
            return float("nan")
        if self.task.kind == "ordinal":
            return p_value(self.draws[:, a] - self.draws[:, b])
        return difference_p(self.scores, self.covariance, a, b)


def ensemble_scores(task: TaskScores, rng: np.random.Generator, draws: int) -> EnsembleScores:
    """Scores of the ensembles; `rng` and `draws` are asked for grades alone."""
    labels, scores = ensemble(task)
    none = np.empty((0, len(scores)))
    if task.kind == "binary":
        return EnsembleScores(task, *delong(labels, scores), none)
    if task.kind == "multiclass":
        return EnsembleScores(task, *macro_delong(labels, scores), none)
    if task.kind == "regression":
        return EnsembleScores(task, *correlations(labels, scores), none)
    if task.kind == "survival":
        events = task.patient_event[np.unique(task.patients)]
        return EnsembleScores(task, *harrell(labels, events, scores), none)
    return _of_grades(task, labels, scores, rng, draws)


def _of_grades(
    task: TaskScores, labels: Floats, scores: Floats, rng: np.random.Generator, draws: int
) -> EnsembleScores:
    grades = decoded_grade(scores, task.n_classes)
    once = kappa_draws(np.ones((1, len(labels))), labels, grades, task.n_classes)[0]
    unknown = np.full((len(scores), len(scores)), np.nan)
    if task.too_small or np.isnan(once).all():
        return EnsembleScores(task, once, unknown, np.empty((0, len(scores))))
    weights = draw_within_classes(rng, labels, draws).astype(float)
    return EnsembleScores(task, once, unknown, kappa_draws(weights, labels, grades, task.n_classes))


def ensemble(task: TaskScores) -> tuple[Floats, Floats]:
    """Labels [p] and mean scores [M, p] or [M, p, C] of the p labelled test patients.

    The mean is over folds and seeds, then over the patient's slides. All NaN where the test sides of folds differ,
    since then no slide was scored by all trainings; NaN for a model that lacks one.
    """
    patients = np.unique(task.patients)
    labels = task.patient_label[patients]
    if task.test_side_differs:
        return labels, np.full((len(task.scores), len(patients), *task.scores.shape[4:]), np.nan)
    slides = on_one_scale(task.kind, task.scores, task.training_risk).mean(axis=(1, 2))  # [M, S] or [M, S, C]
    if task.kind == "multiclass":
        return labels, np.moveaxis(by_patient(task.patients, np.moveaxis(slides, -1, 1))[1], 1, -1)
    return labels, by_patient(task.patients, slides)[1]


def on_one_scale(kind: str, scores: Floats, training_risk: Floats) -> Floats:
    """Scores whose mean over trainings means something: logits, and risks in units of a trial's own training risks.

    Parameters
    ----------
    scores : [..., S] of S slides, or [..., S, C] of C classes without an order.
    training_risk : [..., 2] mean and standard deviation of the trial's training risks; looked at for survival alone.
    """
    if kind == "binary":
        return logit_of(scores)
    if kind == "survival":
        mean, sd = training_risk[..., :1], training_risk[..., 1:]
        return np.asarray((scores - mean) / np.where(sd == 0, 1.0, sd))
    return scores


def logit_of(probabilities: Floats) -> Floats:
    """Finite logits of probabilities."""
    return np.asarray(logit(np.clip(probabilities, SATURATED, 1 - SATURATED)))
