"""Interval of Pearson's r without resampling: Fisher's z, for fixed predictions of independent patients."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from milbench.stats.crossed import LEVEL, Interval


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
    reach = norm.ppf((1 + LEVEL) / 2) / np.sqrt(n - 3)
    return Interval(float(np.tanh(np.arctanh(r) - reach)), float(np.tanh(np.arctanh(r) + reach)))
