"""Curves over time: Kaplan-Meier of survival and of censoring, log-rank test, tau.

Times are in any one unit; an event is 1 where seen and 0 where the patient was censored. Rows with an unknown time or
event are left out.
"""

from __future__ import annotations

from math import erfc, sqrt
from typing import NamedTuple

import numpy as np

from milbench.metrics.weights import NAN, Flags, Floats, quotient, unit_weights

SMALLEST_G = 0.1
"""Share of patients whose follow-up must reach tau."""
ROUNDING = 1e-12
"""A product of shares that is one half or one tenth on paper may come out this much off."""


class Curve(NamedTuple):
    """A step function: 1 before the first of the ascending `times` [m], then `values` [m] from each of them on."""

    times: Floats
    values: Floats

    def at(self, times: Floats) -> Floats:
        """Value at `times` [...], right-continuous; NaN after the last time, unless the curve had reached 0."""
        times = np.asarray(times, dtype=float)
        if not len(self.times):
            return np.full(times.shape, np.nan)
        values = np.append(1.0, self.values)[np.searchsorted(self.times, times, side="right")]
        unseen = np.isnan(times) | ((times > self.times[-1]) & (values > 0))
        return np.where(unseen, np.nan, values)

    def median(self) -> float:
        """The first time with a value of at most one half; NaN where the curve stays above."""
        low = np.flatnonzero(self.values <= 0.5 + ROUNDING)
        return float(self.times[low[0]]) if len(low) else NAN


class LogRank(NamedTuple):
    """Log-rank test of two groups: chi-squared with one degree of freedom, p, events [2] observed and expected."""

    chi2: float
    p: float
    observed: Floats
    expected: Floats


class _Counts(NamedTuple):
    """At each distinct time [m]: weight of the events, of the censored, and of those who stay longer."""

    times: Floats
    events: Floats
    censored: Floats
    later: Floats


def kaplan_meier(time: Floats, event: Floats, weights: Floats | None = None) -> Curve:
    r"""Kaplan-Meier curve of survival; a patient censored at t is at risk at t.

    .. math:: S(t) = \prod_{t_k \le t} \left( 1 - \frac{d_k}{n_k} \right), \quad d_k \text{ events among } n_k \text{ at risk at } t_k
    """
    counts = _counts(*followed(time, event, weights))
    return Curve(counts.times, _product(counts.events, counts.events + counts.censored + counts.later))


def censoring_survival(time: Floats, event: Floats, weights: Floats | None = None) -> Curve:
    """G, the Kaplan-Meier curve of censoring; of the training side, it makes the weights 1 / G.

    Patients with an event at t leave before those at risk of censoring at t are counted, as in scikit-survival.
    """
    counts = _counts(*followed(time, event, weights))
    return Curve(counts.times, _product(counts.censored, counts.censored + counts.later))


def tau(time: Floats, event: Floats, at_least: float = SMALLEST_G, weights: Floats | None = None) -> float:
    """The largest observed time with G of `at_least`; NaN where there is none."""
    censoring = censoring_survival(time, event, weights)
    enough = np.flatnonzero(censoring.values >= at_least - ROUNDING)
    return float(censoring.times[enough[-1]]) if len(enough) else NAN


def log_rank(time: Floats, event: Floats, group: Floats, weights: Floats | None = None) -> LogRank:
    """Log-rank test of `group` [n] 1 against 0; NaN where a group is empty, none had an event, or a group is NaN."""
    time, event, weights, rows = followed_rows(time, event, weights)
    group = np.asarray(group, dtype=float)[rows]
    if np.isnan(group).any() or not len(group):
        return LogRank(NAN, NAN, np.full(2, np.nan), np.full(2, np.nan))
    both, one = _counts(time, event, weights), _counts(time, event, weights * group)
    at_risk = both.events + both.censored + both.later
    share = (one.events + one.censored + one.later) / at_risk
    spread = np.divide(at_risk - both.events, at_risk - 1, out=np.zeros(len(share)), where=at_risk > 1)
    variance = (both.events * share * (1 - share) * spread).sum()
    observed, expected = one.events.sum(), (both.events * share).sum()
    chi2 = quotient(float((observed - expected) ** 2), float(variance))
    total = both.events.sum()
    pairs = np.array([total - observed, observed]), np.array([total - expected, expected])
    return LogRank(chi2, erfc(sqrt(chi2 / 2)), *pairs)


def followed(time: Floats, event: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Time, event and weight of the rows that are known and count."""
    return followed_rows(time, event, weights)[:3]


def followed_rows(time: Floats, event: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats, Flags]:
    """Time, event and weight of the rows that are known and count, and which these are."""
    time, event = np.asarray(time, dtype=float), np.asarray(event, dtype=float)
    weights = unit_weights(weights, len(time))
    rows = ~(np.isnan(time) | np.isnan(event)) & (weights > 0)
    return time[rows], event[rows], weights[rows], rows


def _counts(time: Floats, event: Floats, weights: Floats) -> _Counts:
    times, place = np.unique(time, return_inverse=True)
    events = np.asarray(np.bincount(place, weights * event, minlength=len(times)), dtype=float)
    censored = np.asarray(np.bincount(place, weights * (1 - event), minlength=len(times)), dtype=float)
    leaving = np.append(events + censored, 0.0)
    return _Counts(times, events, censored, np.cumsum(leaving[::-1])[::-1][1:])


def _product(leaving: Floats, at_risk: Floats) -> Floats:
    lost = np.divide(leaving, at_risk, out=np.zeros(len(leaving)), where=leaving > 0)
    return np.cumprod(1 - lost)
