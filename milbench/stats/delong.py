"""DeLong: variance of correlated AUROCs without resampling (DeLong et al. 1988; midranks as Sun and Xu 2014).

Valid for fixed scores of independent patients: here the fold ensemble, never rows pooled over folds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from milbench.stats.crossed import LEVEL, Interval
from milbench.stats.midranks import midranks

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Delong(NamedTuple):
    """AUROCs [M] of models on the same patients, and their covariance [M, M]."""

    aurocs: Floats
    covariance: Floats


def delong(targets: Floats, scores: Floats) -> Delong:
    """AUROCs and covariance of `scores` [M, P] against `targets` [P] in {0, 1}.

    NaN for a model with a NaN score, and for all where a class has fewer than two patients.
    """
    positive = targets == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        return Delong(np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan))
    below, above = _placements(positive, scores)
    covariance = np.atleast_2d(np.cov(below)) / m + np.atleast_2d(np.cov(above)) / n
    return Delong(below.mean(axis=1), covariance)


def macro_delong(labels: Floats, probabilities: Floats) -> Delong:
    """Macro one-vs-rest AUROCs and covariance of `probabilities` [M, P, C] against places of classes `labels` [P].

    A patient moves the AUROC of every class, of its own as a positive and of the others as a negative. These influences
    are averaged over classes, so that the covariance between classes is in the variance of the mean. With two classes
    whose probabilities sum to 1 it is `delong`. NaN where a class, or all but it, has fewer than two patients.
    """
    places = range(probabilities.shape[2])
    each = [_influence(labels == place, probabilities[:, :, place]) for place in places]
    influence = np.mean([part for _, part in each], axis=0)  # [M, P]
    return Delong(np.mean([aurocs for aurocs, _ in each], axis=0), influence @ influence.T)


def _placements(positive: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """Share of negatives below each positive [M, m], and of positives above each negative [M, n]."""
    x, y = scores[:, positive], scores[:, ~positive]
    m, n = x.shape[1], y.shape[1]
    joint = midranks(np.concatenate([x, y], axis=1))
    return (joint[:, :m] - midranks(x)) / n, 1 - (joint[:, m:] - midranks(y)) / m


def _influence(positive: Flags, scores: Floats) -> tuple[Floats, Floats]:
    """AUROCs [M], and how far each patient moves them [M, P]: the sum of its squares is DeLong's variance."""
    moves = np.full(scores.shape, np.nan)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        return np.full(len(scores), np.nan), moves
    below, above = _placements(positive, scores)
    aurocs = below.mean(axis=1)
    moves[:, positive] = (below - aurocs[:, None]) / np.sqrt(m * (m - 1))
    moves[:, ~positive] = (above - aurocs[:, None]) / np.sqrt(n * (n - 1))
    return aurocs, moves


def delong_interval(auroc: float, variance: float) -> Interval:
    """95 % interval on the logit scale, so that it stays within 0 and 1; a point where the variance is zero."""
    if not variance > 0:
        point = auroc if variance == 0 else float("nan")
        return Interval(point, point)
    reach = ndtri((1 + LEVEL) / 2) * np.sqrt(variance) / (auroc * (1 - auroc))
    return Interval(float(expit(logit(auroc) - reach)), float(expit(logit(auroc) + reach)))


def delong_p(result: Delong, a: int, b: int) -> float:
    """Two-sided p that models a and b have the same AUROC; NaN where they differ without any variance."""
    return difference_p(result.aurocs, result.covariance, a, b)


def difference_p(values: Floats, covariance: Floats, a: int, b: int) -> float:
    """Two-sided p that a and b have the same value, by their covariance; NaN where they differ without any variance."""
    difference = values[a] - values[b]
    variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
    if difference == 0:
        return 1.0
    return float(2 * ndtr(-abs(difference) / np.sqrt(variance))) if variance > 1e-15 else float("nan")
