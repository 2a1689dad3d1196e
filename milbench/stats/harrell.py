"""Variance of correlated c-indices without resampling, from what each patient contributes (Kang et al. 2015).

With P the comparable pairs and C whether each is in favour, c(w) = w'(P * C)w / w'Pw under patient weights w. How far
patient i moves c is its derivative at w = 1 (1); the variance is the sum of squares of these influences (2). Valid for
fixed risks of independent patients: here the fold ensemble.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.metrics import concordance
from milbench.metrics.survival import comparable, favourable

Floats = NDArray[np.float64]


class Concordances(NamedTuple):
    """c-indices [M] of models on the same patients, and their covariance [M, M]."""

    values: Floats
    covariance: Floats


def harrell(time: Floats, event: Floats, risks: Floats) -> Concordances:
    """c-indices and covariance of `risks` [M, P] for patients with `time` [P] and `event` [P] in {0, 1}.

    Intervals and p are those of `delong_interval` and `difference_p`. NaN for a model with a NaN risk, and for all where
    no pair is comparable.
    """
    known = ~(np.isnan(time) | np.isnan(event))
    time, event, risks = time[known], event[known], risks[:, known]
    values = np.array([concordance(time, event, risk) for risk in risks])
    influence = np.array([_influence(time, event, risk, c) for risk, c in zip(risks, values, strict=True)])
    n = len(time)
    correction = n / (n - 1) if n > 1 else np.nan
    return Concordances(values, correction * influence @ influence.T)  # (2)


def _influence(time: Floats, event: Floats, risk: Floats, c: float) -> Floats:
    """(1): won pairs of each patient less c times its pairs, as earlier or as later one, over all pairs; [P]."""
    if np.isnan(c):
        return np.full(len(time), np.nan)
    events = np.flatnonzero(event == 1)
    pairs = comparable(time, event, events)
    excess = pairs * (favourable(risk, events) - c)  # [events, P]
    moves = excess.sum(axis=0)
    moves[events] += excess.sum(axis=1)
    return np.asarray(moves / pairs.sum())
