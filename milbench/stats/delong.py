"""DeLong: variance of correlated AUROCs without resampling (DeLong et al. 1988; midranks as Sun and Xu 2014).

Valid for fixed scores of independent patients: here the fold ensemble, never rows pooled over folds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from milbench.stats.crossed import LEVEL, Interval

Floats = NDArray[np.float64]


class Delong(NamedTuple):
    """AUROCs [M] of models on the same patients, and their covariance [M, M]."""

    aurocs: Floats
    covariance: Floats


def delong(targets: Floats, scores: Floats) -> Delong:
    """AUROCs and covariance of `scores` [M, P] against `targets` [P] in {0, 1}.

    NaN for a model with a NaN score, and for all where a class has fewer than two patients.
    """
    positive = targets == 1
    x, y = scores[:, positive], scores[:, ~positive]
    m, n = x.shape[1], y.shape[1]
    if min(m, n) < 2:
        return Delong(np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan))
    joint = rankdata(np.concatenate([x, y], axis=1), axis=1)
    # share of negatives below each positive, and of positives above each negative
    below = (joint[:, :m] - rankdata(x, axis=1)) / n  # [M, m]
    above = 1 - (joint[:, m:] - rankdata(y, axis=1)) / m  # [M, n]
    covariance = np.atleast_2d(np.cov(below)) / m + np.atleast_2d(np.cov(above)) / n
    return Delong(below.mean(axis=1), covariance)


def delong_interval(auroc: float, variance: float) -> Interval:
    """95 % interval on the logit scale, so that it stays within 0 and 1; a point where the variance is zero."""
    if not variance > 0:
        point = auroc if variance == 0 else float("nan")
        return Interval(point, point)
    reach = norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance) / (auroc * (1 - auroc))
    return Interval(float(expit(logit(auroc) - reach)), float(expit(logit(auroc) + reach)))


def delong_p(result: Delong, a: int, b: int) -> float:
    """Two-sided p that models a and b have the same AUROC; NaN where they differ without any variance."""
    difference = result.aurocs[a] - result.aurocs[b]
    variance = result.covariance[a, a] + result.covariance[b, b] - 2 * result.covariance[a, b]
    if difference == 0:
        return 1.0
    return float(2 * norm.sf(abs(difference) / np.sqrt(variance))) if variance > 1e-15 else float("nan")
