"""Optimum: the best value of each kind's primary metric that any score can have. Exact sums, no simulation.

A patient is in one of K states, and the features tell nothing of a label except through the state. So no score of the
features beats the best score of the state. The values below are those of a cohort without end.

- *AUROC*: P(label | state) ranks best (Neyman and Pearson). Of classes each column does, so their mean is the best one.
- *Quadratic kappa*: is 2 cov(y, g) / (var y + var g + (mean y - mean g)^2) of grades y and calls g. If kappa is the best
  value, the best call is the grade nearest to mean y + (E(y | state) - mean y) / kappa. Dinkelbach's iteration finds both.
- *Pearson's r*: E(y | state), with r = sd E(y | state) / sd y.
- *Harrell's c*: the hazard, if hazards are proportional and censoring is the same for all. Of two patients the one with
  the higher hazard is then more often the one who is seen to have the event first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.metrics import quadratic_kappa

Floats = NDArray[np.float64]


class Optimum(NamedTuple):
    """The best value of the metric, and the answers [K, A] by state that reach it."""

    value: float
    answers: Floats


def best_auroc(positive: Floats, negative: Floats) -> float:
    """AUROC of the likelihood ratio between two masses [K] over the same states; NaN without one of the classes."""
    total = positive.sum() * negative.sum()
    if total == 0:
        return float("nan")
    order = np.argsort(positive / np.maximum(positive + negative, np.finfo(float).tiny))
    p, n = positive[order], negative[order]
    # Ties would share their pairs half and half; ordering them either way gives the same sum, as the ROC curve
    # is straight between outcomes of one likelihood ratio.
    below = np.cumsum(n) - n
    return float((p * (below + n / 2)).sum() / total)


def of_binary(joint: Floats) -> Optimum:
    """Best AUROC; `joint` [K, 2] is the probability of each state together with each label."""
    return Optimum(best_auroc(joint[:, 1], joint[:, 0]), _given_state(joint)[:, 1:])


def of_classes(joint: Floats) -> Optimum:
    """Best macro AUROC; `joint` [K, C] is the probability of each state together with each class."""
    of_state = joint.sum(axis=1)
    values = [best_auroc(of_class, of_state - of_class) for of_class in joint.T]
    return Optimum(float(np.mean(values)), _given_state(joint))


def of_grades(joint: Floats) -> Optimum:
    """Best quadratic kappa; `joint` [K, C] is the probability of each state together with each grade."""
    from milbench.endpoints.answers import decoded_grade  # it brings SciPy, which no worker needs for its bags

    n_grades = joint.shape[1]
    expected = _given_state(joint) @ np.arange(n_grades)
    mean = float(joint.sum(axis=1) @ expected)
    best, calls = 0.0, np.full(len(joint), np.round(mean))
    while True:
        stretched = mean + (expected - mean) / max(best, 1e-9)
        tried = decoded_grade(stretched, n_grades)
        kappa = _kappa(joint, tried)
        if not kappa > best + 1e-12:
            return Optimum(best, calls[:, None])
        best, calls = kappa, tried


def of_score(shares: Floats, means: Floats, noise: float) -> Optimum:
    """Best Pearson's r of a score that is `means` [K] plus noise of a standard deviation; states have `shares` [K]."""
    told = float(shares @ (means - shares @ means) ** 2)
    return Optimum(float(np.sqrt(told / (told + noise**2))) if told else float("nan"), means[:, None])


def of_survival(shares: Floats, hazards: Floats, censoring: float) -> Optimum:
    """Best Harrell's c of proportional hazards [K], where censoring is a hazard of its own.

    Times may be on any scale on which both are constant: of Weibull times that is time to the power of the shape.
    """
    # of a and b, four clocks run: two events, two censorings. The event of a comes first in this share of the pairs.
    first = hazards[:, None] / (hazards[:, None] + hazards + 2 * censoring)  # [K, K]
    pairs = first * np.outer(shares, shares)
    won = (hazards[:, None] > hazards) + 0.5 * (hazards[:, None] == hazards)
    return Optimum(float((pairs * won).sum() / pairs.sum()), hazards[:, None])


def _given_state(joint: Floats) -> Floats:
    """P(label | state), [K, C]."""
    return np.asarray(joint / np.maximum(joint.sum(axis=1, keepdims=True), np.finfo(float).tiny))


def _kappa(joint: Floats, calls: Floats) -> float:
    """Quadratic kappa of one call [K] per state."""
    n_states, n_grades = joint.shape
    grades = np.tile(np.arange(n_grades, dtype=float), n_states)
    return quadratic_kappa(grades, np.repeat(calls, n_grades), n_grades, joint.ravel())
