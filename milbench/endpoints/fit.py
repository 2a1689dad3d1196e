"""Fit: what the labels of a fold's training patients decide about a task: time bins, scale, loss of the best constant.

Sums are exact (`math.fsum`) and fitted numbers keep 12 digits. So the order of the patients and the processor's
arithmetic do not change them, nor the identity of a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import fsum, log, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.endpoint import Endpoint, event_of, time_of
from milbench.endpoints.fitted import FittedEndpoint, LossOptions
from milbench.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

BATCH_OF_COX = 16
"""Patients whose risks a constant is compared in: the fewest bags per step that a Cox loss is trained with."""


class Fit(NamedTuple):
    """What was fitted, and what the user should know about it, one line per note."""

    fitted: FittedEndpoint
    notes: tuple[str, ...]


def fit(endpoint: Endpoint, labels: Floats, options: LossOptions, *, task: str) -> Fit:
    """The endpoint as a fold's trials learn it.

    Parameters
    ----------
    labels : [P] one per patient of the fold's training side, as `endpoint` keeps them; NaN where unknown.
    task : its name, for messages. The caller adds the fold.

    Raises
    ------
    DataError : a label is impossible, or the labels cannot teach the task.
    """
    known = np.asarray(labels, dtype=np.float64)
    known = known[~np.isnan(known)]
    about = f"task '{task}' ({endpoint.kind})"
    if not np.isfinite(known).all():
        raise DataError(f"{about}: a label is infinite. Correct it, or leave it blank if it is unknown.")
    if not len(known) and endpoint.kind != "binary":
        raise DataError(f"{about}: no training patient has a known label. Use fewer folds, or leave the task out.")
    fitted, notes = _FIT[endpoint.kind](endpoint, known, options, about)
    return Fit(fitted, tuple(notes))


def patient_labels(slides: pd.DataFrame, task: str, endpoint: Endpoint) -> pd.Series[float]:
    """Label of every patient by `patient_id`, in the order of their first slides; NaN if none of their slides has one.

    If a patient's slides contradict each other, a binary label is the largest. Other labels are the first known one in
    the order of `slides`: a class has no largest, and a time belongs to its event.
    """
    of_patients = slides.groupby("patient_id", sort=False)[task]
    return of_patients.max() if endpoint.kind == "binary" else of_patients.first()


# ---- by kind -----------------------------------------------------------------------------------------

_Fitted = tuple[FittedEndpoint, list[str]]


def _fit_binary(endpoint: Endpoint, labels: Floats, options: LossOptions, about: str) -> _Fitted:
    """A task with one class is learned all the same, as in trials of binary tasks alone; only its scale is missing."""
    counts = _counts(labels, 2, about)
    if np.count_nonzero(counts) < 2:
        found = f"all {len(labels)} known labels are {int(labels[0])}" if len(labels) else "no label is known"
        note = f"{about}: {found} among the training patients, so its loss is not divided by that of the best constant"
        return FittedEndpoint(endpoint, "bce"), [note]
    return FittedEndpoint(endpoint, "bce", constant_loss=_rounded(_entropy(counts))), []


def _fit_classes(endpoint: Endpoint, labels: Floats, options: LossOptions, about: str) -> _Fitted:
    loss = "ce" if endpoint.kind == "multiclass" else options.ordinal
    counts = _counts(labels, len(endpoint.classes), about)
    if np.count_nonzero(counts) < 2:
        only = endpoint.classes[int(labels[0])]
        raise DataError(
            f"{about}: all {len(labels)} training patients with a known label are '{only}', so there is nothing to tell "
            "apart. Use fewer folds, stratify the split by this task, or leave the task out."
        )
    absent = [name for name, count in zip(endpoint.classes, counts, strict=True) if not count]
    notes = [f"{about}: no training patient is {_listed(absent)}, so no model can learn to predict it"] * bool(absent)
    constant = {"ce": _entropy, "corn": _corn_of_constant, "l1": _l1_of_counts}[loss](counts)
    return FittedEndpoint(endpoint, loss, constant_loss=_rounded(constant)), notes


def _fit_regression(endpoint: Endpoint, labels: Floats, options: LossOptions, about: str) -> _Fitted:
    if endpoint.transform == "log1p" and labels.min() <= -1:
        raise DataError(
            f"{about}: a value is {labels.min():g}, and log1p needs values above -1. "
            "Correct the value, or declare no transform."
        )
    values = np.log1p(labels) if endpoint.transform == "log1p" else labels
    center, scale = (_rounded(number) for number in _mean_and_sd(values))
    if not scale > 1e-9 * abs(center):  # what is left of equal values after rounding
        raise DataError(
            f"{about}: all {len(labels)} training patients with a known value have the value {labels[0]:g}, so there is "
            "nothing to predict. Use fewer folds, or leave the task out."
        )
    fitted = FittedEndpoint(endpoint, options.regression, center=center, scale=scale)
    constant = _LOSS_OF_BEST_CONSTANT[options.regression](fitted.targets(labels))
    return replace(fitted, constant_loss=_rounded(constant)), []


def _fit_survival(endpoint: Endpoint, labels: Floats, options: LossOptions, about: str) -> _Fitted:
    if (labels == 0).any():
        raise DataError(
            f"{about}: a time is 0, of which the event cannot be told. Give it as part of a day, such as 0.5."
        )
    times, event = time_of(labels), event_of(labels) == 1
    if not event.any():
        raise DataError(
            f"{about}: all {len(labels)} training patients are censored; at least two with an event are needed. "
            "Check how events are coded, use fewer folds, or leave the task out."
        )
    return (_fit_cox if options.survival == "cox" else _fit_nll)(endpoint, times, event, options, about)


def _fit_nll(endpoint: Endpoint, times: Floats, event: NDArray[np.bool_], options: LossOptions, about: str) -> _Fitted:
    edges = inner_edges(times[event], options.bins)
    if not edges:
        raise DataError(
            f"{about}: the {int(event.sum())} training patients with an event cannot be cut into two time bins, because "
            "their events lie at too few times. Use fewer folds, trainer.survival_loss: cox, or leave the task out."
        )
    notes = [
        f"{about}: {len(edges) + 1} time bins instead of {options.bins}, because events of the {int(event.sum())} training "
        "patients with one lie at too few times"
    ] * (len(edges) + 1 < options.bins)
    fitted = FittedEndpoint(endpoint, "nll", edges=edges, alpha=options.alpha, eps=options.eps)
    targets = fitted.targets(np.where(event, times, -times))
    return replace(fitted, constant_loss=_rounded(_nll_of_constant(targets, fitted))), notes


def _fit_cox(endpoint: Endpoint, times: Floats, event: NDArray[np.bool_], options: LossOptions, about: str) -> _Fitted:
    constant = _cox_of_constant(times, event)
    if not constant > 0:
        raise DataError(
            f"{about}: no training patient was followed beyond an event, so no risks can be compared. "
            "Use fewer folds, or leave the task out."
        )
    return FittedEndpoint(endpoint, "cox", constant_loss=_rounded(constant)), []


_FIT: Mapping[str, Callable[[Endpoint, Floats, LossOptions, str], _Fitted]] = {
    "binary": _fit_binary,
    "multiclass": _fit_classes,
    "ordinal": _fit_classes,
    "regression": _fit_regression,
    "survival": _fit_survival,
}


def inner_edges(event_times: Floats, n_bins: int) -> tuple[float, ...]:
    """Inner edges, ascending, of at most `n_bins` bins [a, b) that hold equal shares of events; 0 and infinity are the outer.

    Edges are quantiles with linear interpolation, as pandas' `qcut`. An edge that would close a bin without an event is
    left out, so ties and few events make fewer bins.
    """
    ordered, n = np.sort(event_times), len(event_times)
    # whole numbers divided once: an edge that is an event's time is exactly that time, and opens that patient's bin
    edges = np.interp(np.arange(1, n_bins) * (n - 1) / n_bins, np.arange(n), ordered)
    earlier, first = np.unique(np.searchsorted(ordered, edges), return_index=True)
    return tuple(edges[first[earlier > 0]].tolist())


# ---- loss of the best constant ------------------------------------------------------------------------


def _entropy(counts: NDArray[np.int64]) -> float:
    """Mean -log of each label's share."""
    n = int(counts.sum())
    return fsum(-count / n * log(count / n) for count in counts.tolist() if count)


def _corn_of_constant(counts: NDArray[np.int64]) -> float:
    """CORN loss of constant logits: each threshold k costs its entropy among the bags with y >= k."""
    at_least = np.cumsum(counts[::-1])[::-1].tolist()  # [C] labels y >= k
    n, thresholds = at_least[0], len(counts) - 1
    entropies = (
        at_least[k] / n * _entropy(np.array([counts[k], at_least[k + 1]])) for k in range(thresholds) if at_least[k]
    )
    return fsum(entropies) / thresholds


def _l1_of_counts(counts: NDArray[np.int64]) -> float:
    return _l1_of_constant(np.repeat(np.arange(len(counts), dtype=float), counts))


def _l1_of_constant(targets: Floats) -> float:
    return _mean(np.abs(targets - np.median(targets)))


def _mse_of_constant(targets: Floats) -> float:
    return _mean_and_sd(targets)[1] ** 2


def _huber_of_constant(targets: Floats) -> float:
    """Mean Huber(1) loss of the constant where its derivative changes sign, found by halving."""
    low, high = float(targets.min()), float(targets.max())
    while low < (middle := (low + high) / 2) < high:
        if fsum(np.clip(targets - middle, -1, 1)) > 0:
            low = middle
        else:
            high = middle
    errors = np.abs(targets - low)
    return _mean(np.where(errors <= 1, errors**2 / 2, errors - 0.5))


_LOSS_OF_BEST_CONSTANT: Mapping[str, Callable[[Floats], float]] = {
    "huber": _huber_of_constant,
    "l1": _l1_of_constant,
    "mse": _mse_of_constant,
}


def _nll_of_constant(targets: Floats, fitted: FittedEndpoint) -> float:
    """Mean NLL of the hazards by Kaplan and Meier in the bins; patients who were censored count 1 - alpha there too.

    Without weights and clamp no other constant hazards have a smaller loss.
    """
    bins, n_bins = np.abs(targets).astype(int) - 1, fitted.n_bins
    events = np.bincount(bins[targets > 0], minlength=n_bins).astype(float)
    censored = np.bincount(bins[targets < 0], minlength=n_bins) * (1 - fitted.alpha)
    at_risk = np.cumsum((events + censored)[::-1])[::-1]
    hazard = events / at_risk
    survival = np.cumprod(1 - hazard)
    before = np.concatenate([[1.0], survival[:-1]])
    terms = [(events, before), (events, hazard), (censored, survival)]
    costs = (
        -weight * log(max(factor, fitted.eps))
        for weights, factors in terms
        for weight, factor in zip(weights.tolist(), factors.tolist(), strict=True)
        if weight
    )
    return fsum(costs) / len(targets)


def _cox_of_constant(times: Floats, event: NDArray[np.bool_]) -> float:
    """Mean Cox loss of equal risks over batches of about 16 patients, those without an event left out.

    Of m batches, batch j holds patients j, j + m, j + 2m, ... in the order of their times, events first: each spans the
    whole follow-up, as a random batch does, and the rows' order plays no part.
    """
    order = np.lexsort([~event, times])
    m = -(-len(times) // BATCH_OF_COX)
    batches = [order[j::m] for j in range(m)]
    return _mean([_cox_of_equal_risks(times[rows], event[rows]) for rows in batches if event[rows].any()])


def _cox_of_equal_risks(times: Floats, event: NDArray[np.bool_]) -> float:
    """Efron's loss, mean over events, if all risks are equal: of d events at one time, the l-th (from 0) sees n - l."""
    at, tied = np.unique(times[event], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), at)
    return fsum(log(n - earlier) for n, d in zip(at_risk, tied, strict=True) for earlier in range(d)) / int(event.sum())


# ---- numbers ------------------------------------------------------------------------------------------


def _counts(labels: Floats, n_classes: int, about: str) -> NDArray[np.int64]:
    """Number of labels of each class [C]."""
    places = labels.astype(int)
    if (places != labels).any() or (places < 0).any() or (places >= n_classes).any():
        odd = labels[(places != labels) | (places < 0) | (places >= n_classes)][0]
        raise DataError(f"{about}: a label is {odd:g}; expected a whole number from 0 to {n_classes - 1}. Correct it.")
    return np.bincount(places, minlength=n_classes).astype(np.int64)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return fsum(listed) / len(listed)


def _mean_and_sd(values: Floats) -> tuple[float, float]:
    """Mean and standard deviation (ddof 0)."""
    mean = _mean(values)
    return mean, sqrt(_mean((values - mean) ** 2))


def _rounded(number: float) -> float:
    """`number` to 12 digits: logarithms of different machines differ in their last bit, which would be another trial."""
    return float(f"{number:.12g}")


def _listed(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
