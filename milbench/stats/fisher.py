"""Pearson's r without resampling, for fixed predictions of independent patients: Fisher's interval, and the covariance of
correlated r from what each patient contributes.

With x and y standardised over the patients, patient i moves r by (x_i y_i - r (x_i^2 + y_i^2) / 2) / n to first order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from milbench.metrics import pearson
from milbench.stats.crossed import LEVEL, Interval

Floats = NDArray[np.float64]


class Correlations(NamedTuple):
    """Pearson's r [M] of models on the same patients, and their covariance [M, M]."""

    values: Floats
    covariance: Floats


def correlations(labels: Floats, predictions: Floats) -> Correlations:
    """R and covariance of `predictions` [M, P] with `labels` [P]; NaN for a model whose r is."""
    values = np.array([pearson(labels, row) for row in predictions])
    n = len(labels)
    moves = np.full(predictions.shape, np.nan)
    for row in np.flatnonzero(~np.isnan(values)):
        x, y = _standardised(predictions[row]), _standardised(labels)
        moves[row] = (x * y - values[row] * (x**2 + y**2) / 2) / n
    correction = n / (n - 1) if n > 1 else np.nan
    return Correlations(values, correction * moves @ moves.T)


def _standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def fisher_interval(r: float, n: int) -> Interval:
    """95 % interval of r from `n` patients: normal on the scale of artanh r, with variance 1 / (n - 3).

    All of -1 to 1 with three patients or fewer; NaN where r is.
    """
    if np.isnan(r):
        return Interval(float("nan"), float("nan"))
    if n <= 3:
        return Interval(-1.0, 1.0)
    if abs(r) >= 1:
        return Interval(r, r)
    reach = ndtri((1 + LEVEL) / 2) / np.sqrt(n - 3)
    return Interval(float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach)))
