"""Metrics of risks: concordance, AUROC over time, Brier score over time.

`time` [n] and `event` [n] in {0, 1} are those of the test side; a row where either is NaN is left out. A higher `risk`
[n] means an earlier event. `censoring` is G of the training side (`curves.censoring_survival`), never of the test side.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from milbench.metrics.binary import auroc
from milbench.metrics.curves import Curve, kaplan_meier
from milbench.metrics.weights import NAN, Flags, Floats, quotient, ratio, unit_weights, weighted_mean

Places = NDArray[np.intp]
PAIRS_PER_STEP = 2**22


# ---- concordance ---------------------------------------------------------------------------------


def concordance(time: Floats, event: Floats, risk: Floats, weights: Floats | None = None) -> float:
    r"""Harrell's c: share of the comparable pairs in which the patient with the earlier event has the higher risk.

    .. math::

        c &= \frac{\sum_{(i, j)} [r_i > r_j] + \tfrac{1}{2} [r_i = r_j]}{\sum_{(i, j)} 1} \\
        (i, j) &: i \text{ has an event at } t_i, \ t_i < t_j \text{ or } (t_i = t_j \text{ and } j \text{ is censored})

    Comparable are an event and whoever is known to stay longer; one censored at the time of the event does. Two events
    at one time are no pair, and neither are copies of one patient. Equal risks, compared exactly, count one half. NaN
    where no pair is comparable.
    """
    time, event, risk, weights = _rows(time, event, risk, weights)
    return _share_of_pairs(time, event, risk, weights, np.ones(len(time)))


def uno_concordance(
    time: Floats, event: Floats, risk: Floats, censoring: Curve, tau: float = np.inf, weights: Floats | None = None
) -> float:
    r"""Uno's c: pairs weigh 1 / G^2 of the earlier time, which must lie before `tau`; NaN where that G is not known.

    .. math::

        c = \frac{\sum_{(i, j): t_i < \tau} G(t_i)^{-2} \left( [r_i > r_j] + \tfrac{1}{2} [r_i = r_j] \right)}
            {\sum_{(i, j): t_i < \tau} G(t_i)^{-2}}
    """
    time, event, risk, weights = _rows(time, event, risk, weights)
    if np.isnan(tau):
        return NAN
    early = (event == 1) & (time < tau)
    importance = np.zeros(len(time))
    importance[early] = _inverse(censoring.at(time[early])) ** 2
    return _share_of_pairs(time, event, risk, weights, importance)


def comparable(time: Floats, event: Floats, events: Places) -> Flags:
    """Whether row j is known to stay longer than the patient with the event of row i: [events, n]."""
    of_event = time[events, None]
    return np.asarray((of_event < time) | ((of_event == time) & (event == 0)))


def favourable(risk: Floats, events: Places) -> Floats:
    """1 where row i of the events has a higher risk than row j, 1/2 where they are equal, else 0: [events, n]."""
    of_event = risk[events, None]
    return np.asarray((of_event > risk) + 0.5 * (of_event == risk))


def _share_of_pairs(time: Floats, event: Floats, risk: Floats, weights: Floats, importance: Floats) -> float:
    """Weighted mean of `favourable` over the comparable pairs, some events per step."""
    if np.isnan(risk).any():
        return NAN
    won = pairs = 0.0
    for events in _steps(event):
        longer = comparable(time, event, events)
        own = weights[events] * importance[events]
        pairs += float(own @ (longer @ weights))
        won += float(own @ ((longer * favourable(risk, events)) @ weights))
    return quotient(won, pairs)


def _steps(event: Floats) -> Iterator[Places]:
    events = np.flatnonzero(event == 1)
    size = max(1, PAIRS_PER_STEP // max(1, len(event)))
    return (events[start : start + size] for start in range(0, len(events), size))


# ---- AUROC over time -----------------------------------------------------------------------------


def time_dependent_auc(
    time: Floats, event: Floats, risk: Floats, times: Floats, censoring: Curve, weights: Floats | None = None
) -> Floats:
    """Cumulative AUROC at each of `times` [m]: events until t, each weighing 1 / G of its time, against those beyond t.

    NaN where one side is empty or a G that it needs is not known.
    """
    time, event, risk, weights = _rows(time, event, risk, weights)
    if np.isnan(risk).any():
        return np.full(len(times), np.nan)
    return np.array([_auc_at(time, event, risk, at, censoring, weights) for at in times], dtype=float)


def mean_time_dependent_auc(
    time: Floats, event: Floats, aucs: Floats, times: Floats, weights: Floats | None = None
) -> float:
    """Mean of `aucs` [m] at ascending `times` [m], each weighted by the fall of survival since the one before."""
    survival = kaplan_meier(time, event, weights).at(times)
    falls = -np.diff(survival, prepend=1.0)
    return weighted_mean(aucs, falls)


def cases_and_controls(time: Floats, event: Floats, at: float) -> tuple[int, int]:
    """Number of patients with an event until `at`, and of those followed beyond; both decide what may be reported."""
    known = ~(np.isnan(time) | np.isnan(event))
    return int(((event == 1) & (time <= at))[known].sum()), int((time > at)[known].sum())


def _auc_at(time: Floats, event: Floats, risk: Floats, at: float, censoring: Curve, weights: Floats) -> float:
    case, control = (event == 1) & (time <= at), time > at
    importance = np.where(control, 1.0, 0.0)
    importance[case] = _inverse(censoring.at(time[case]))
    used = case | control
    return auroc(case[used].astype(float), risk[used], (weights * importance)[used])


# ---- Brier score over time -----------------------------------------------------------------------


def brier_at(
    time: Floats, event: Floats, survival: Floats, times: Floats, censoring: Curve, weights: Floats | None = None
) -> Floats:
    r"""Brier score at each of `times` [m] of the predicted `survival` [n, m], weighted by 1 / G: [m].

    .. math:: B(t) = \frac{1}{n} \sum_i \frac{S_i(t)^2 \, [t_i \le t, \text{event}]}{G(t_i)} + \frac{(1 - S_i(t))^2 \, [t_i > t]}{G(t)}

    Who had an event until t counts with 1 / G of its time, who is followed beyond t with 1 / G(t), others with 0. NaN
    where a G that it needs is not known.
    """
    time, event, survival, weights = _rows(time, event, survival, weights)
    columns = zip(survival.T, times, strict=True)
    return np.array([_brier(time, event, column, at, censoring, weights) for column, at in columns], dtype=float)


def integrated_brier(
    time: Floats, event: Floats, survival: Floats, times: Floats, censoring: Curve, weights: Floats | None = None
) -> float:
    """Mean of the Brier score over ascending `times` [m], by trapezoids; NaN with fewer than two."""
    if len(times) < 2:
        return NAN
    scores = brier_at(time, event, survival, times, censoring, weights)
    return float(np.trapezoid(scores, times) / (times[-1] - times[0]))


def survival_in_bins(at_edges: Floats, edges: Floats, times: Floats) -> Floats:
    """Survival [n, m] at `times` [m] of a model that knows it [n, K - 1] at the ascending inner `edges` of its bins.

    It is that of the last finished bin: constant inside a bin, and 1 in the first.
    """
    steps = np.concatenate([np.ones((len(at_edges), 1)), at_edges], axis=1)
    return np.asarray(steps[:, np.searchsorted(edges, times, side="right")])


def brier_times(time: Floats, event: Floats, until: float) -> Floats:
    """Where the Brier score is integrated: observed times of the test side up to `until`, except for the last one."""
    observed = np.unique(time[~(np.isnan(time) | np.isnan(event))])[:-1]
    return observed[observed <= until]


def _brier(time: Floats, event: Floats, survival: Floats, at: float, censoring: Curve, weights: Floats) -> float:
    case, control = (event == 1) & (time <= at), time > at
    if np.isnan(survival).any():
        return NAN
    loss = np.zeros(len(time))
    loss[case] = survival[case] ** 2 * _inverse(censoring.at(time[case]))
    loss[control] = (1 - survival[control]) ** 2 * _inverse(censoring.at(np.full(int(control.sum()), at)))
    return weighted_mean(loss, weights)


def _inverse(shares: Floats) -> Floats:
    return ratio(np.ones(len(shares)), shares)


def _rows(
    time: Floats, event: Floats, predictions: Floats, weights: Floats | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Time, event, predictions [k, ...] and weights of the rows with a known time and event."""
    time, event = np.asarray(time, dtype=float), np.asarray(event, dtype=float)
    known = ~(np.isnan(time) | np.isnan(event))
    weights = unit_weights(weights, len(time))
    return time[known], event[known], np.asarray(predictions, dtype=float)[known], weights[known]
