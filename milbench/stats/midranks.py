"""Midranks: ranks from 1 in which equal values share the mean of their places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def midranks(values: Floats) -> Floats:
    """Midranks of values [n], or of every row of [m, n]; all NaN where a row holds one.

    `scipy.stats.rankdata` gives the same bits. `scipy.stats` takes 0.4 s to import, which every report would wait for.
    """
    if values.ndim > 1:
        return np.array([midranks(row) for row in values]).reshape(values.shape)
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    ordered = np.sort(values)
    below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((below + up_to + 1) / 2)


def tie_sizes(values: Floats) -> NDArray[np.int64]:
    """How often each distinct value of [n] is there."""
    return np.unique(values, return_counts=True)[1]
