"""Multiplicity: p values of a family -> adjusted p values. A NaN belongs to no family and stays NaN."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Floats:
    """Step-down p values that hold the chance of any false rejection in the family."""
    return _adjust(p_values, "holm")


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Adjusted p values (q) that hold the expected share of false rejections among the rejected."""
    return _adjust(p_values, "fdr_bh")


def _adjust(p_values: ArrayLike, method: str) -> Floats:
    from statsmodels.stats.multitest import multipletests  # a second to import

    adjusted = np.array(p_values, dtype=float)
    known = ~np.isnan(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], method=method)[1]
    return adjusted
