"""Metrics of scores, in the units of the labels.

A correlation with a constant has no value. Constants are found by comparison, because their mean may be rounded.
"""

from __future__ import annotations

import numpy as np

from milbench.metrics.weights import NAN, Floats, known_rows, quotient, weighted_mean


def pearson(labels: Floats, predictions: Floats, weights: Floats | None = None) -> float:
    """Pearson's r; NaN where labels or predictions are constant. It is blind to the scale of predictions.

    Parameters
    ----------
    labels, predictions : [n]; a NaN label is left out.
    weights : [n], how often each row counts; once by default.
    """
    labels, predictions, weights = _rows(labels, predictions, weights)
    if is_constant(labels) or is_constant(predictions):
        return NAN
    return _correlation(labels, predictions, weights)


def spearman(labels: Floats, predictions: Floats, weights: Floats | None = None) -> float:
    """Pearson's r of ranks, where equal values share the mean of theirs."""
    labels, predictions, weights = _rows(labels, predictions, weights)
    if is_constant(labels) or is_constant(predictions):
        return NAN
    return _correlation(_ranks(labels, weights), _ranks(predictions, weights), weights)


def r2(labels: Floats, predictions: Floats, weights: Floats | None = None) -> float:
    r"""1 - SSE / SST about the mean of these labels; negative for what is worse than that mean. NaN for equal labels.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}
    """
    labels, predictions, weights = _rows(labels, predictions, weights)
    if is_constant(labels):
        return NAN
    with np.errstate(over="ignore", invalid="ignore"):
        error = ((labels - predictions) ** 2) @ weights
        total = ((labels - weighted_mean(labels, weights)) ** 2) @ weights
    return 1 - quotient(float(error), float(total))


def mae(labels: Floats, predictions: Floats, weights: Floats | None = None) -> float:
    """Mean absolute error."""
    labels, predictions, weights = _rows(labels, predictions, weights)
    return weighted_mean(np.abs(labels - predictions), weights)


def rmse(labels: Floats, predictions: Floats, weights: Floats | None = None) -> float:
    """Root of the mean squared error."""
    labels, predictions, weights = _rows(labels, predictions, weights)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(weighted_mean((labels - predictions) ** 2, weights)))


def ccc(labels: Floats, predictions: Floats, weights: Floats | None = None) -> float:
    r"""Lin's concordance correlation, with variances divided by n; NaN where both are the same constant.

    .. math:: \mathrm{CCC} = \frac{2 \, \mathrm{cov}(y, \hat y)}{\mathrm{var}(y) + \mathrm{var}(\hat y) + (\bar y - \bar{\hat y})^2}
    """
    labels, predictions, weights = _rows(labels, predictions, weights)
    if is_constant(np.concatenate([labels, predictions])):
        return NAN
    with np.errstate(over="ignore", invalid="ignore"):
        x, y = labels - weighted_mean(labels, weights), predictions - weighted_mean(predictions, weights)
        shift = weighted_mean(labels - predictions, weights)
        return quotient(float(2 * (x * y) @ weights), float((x**2 + y**2 + shift * shift) @ weights))


def is_constant(values: Floats) -> bool:
    """Whether all values are equal, or there is none."""
    return not len(values) or bool((values == values[0]).all())


def _rows(labels: Floats, predictions: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Rows that count. Without one if a prediction is not finite, so that every metric is NaN."""
    labels, predictions, weights = known_rows(labels, predictions, weights)
    counts = (weights > 0) & bool(np.isfinite(predictions).all())
    return labels[counts], predictions[counts], weights[counts]


def _correlation(left: Floats, right: Floats, weights: Floats) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        x, y = left - weighted_mean(left, weights), right - weighted_mean(right, weights)
        x, y = x / np.abs(x).max(), y / np.abs(y).max()
        r = quotient(float((x * y) @ weights), float(np.sqrt((x**2 @ weights) * (y**2 @ weights))))
    return float(np.clip(r, -1, 1))


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mean rank of each value among rows that count as often as they weigh, from 1/2."""
    _, place = np.unique(values, return_inverse=True)
    share = np.bincount(place, weights)
    return (np.cumsum(share) - share / 2)[place]
