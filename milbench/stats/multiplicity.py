"""Multiplicity: p values of a family -> adjusted p values. A NaN belongs to no family and stays NaN."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Floats:
    """Step-down p values that hold the chance of any false rejection in the family.

    Five lines rather than statsmodels' `multipletests`, which collects garbage on every call (0.1 s) and takes a
    second to import; the tests hold both functions against it.
    """
    adjusted = np.array(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted p values (q) that hold the expected share of false rejections among the rejected."""
    adjusted = np.array(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known])]
    steps = adjusted[order] * (len(order) / np.arange(1.0, len(order) + 1))
    adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1)
    return adjusted
