"""Weights of rows: how often each row counts.

A weight of 2 equals the row twice. A row without a known label is left out. A prediction that is NaN makes the number
NaN, even where its row weighs nothing: a model that diverged has no score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Weights = NDArray[np.float64] | NDArray[np.int64]
"""Of draws: whole numbers, if rows are drawn with replacement."""

NAN = float("nan")


def unit_weights(weights: Floats | None, n: int) -> Floats:
    """`weights` as floats, or `n` ones."""
    return np.ones(n) if weights is None else np.asarray(weights, dtype=float)


def known_rows(labels: Floats, predictions: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Labels [k], predictions [k, ...] and weights [k] of the rows with a known label."""
    labels = np.asarray(labels, dtype=float)
    known = ~np.isnan(labels)
    return labels[known], np.asarray(predictions, dtype=float)[known], unit_weights(weights, len(labels))[known]


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Mean of `values` [n]; NaN where nothing was weighed."""
    return quotient(float(values @ weights), float(weights.sum()))


def quotient(total: float, weight: float) -> float:
    """`total / weight`; NaN where the weight is not positive, or the result is not finite."""
    if not weight > 0:
        return NAN
    value = total / weight
    return value if np.isfinite(value) else NAN


def ratio(total: Floats, weight: Floats) -> Floats:
    """`total / weight` of arrays; NaN where the weight is not positive."""
    total, weight = np.broadcast_arrays(total, weight)
    return np.asarray(np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0), dtype=float)
