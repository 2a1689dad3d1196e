"""Rows that need no image: what a model must beat before its score says anything about tissue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import ALL_BINARY, BINARY, Endpoint, event_of, time_of
from milbench.endpoints.fit import patient_labels
from milbench.labels.barcode import tissue_source_site
from milbench.metrics import auroc, mean_of_defined
from milbench.stats.scores import primary_score

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

PREVALENCE, SITE = "prevalence", "site-only"
TITLES = {PREVALENCE: "Prevalence (no image)", SITE: "Site only (no image)"}


def no_image_baselines(
    labels: pd.DataFrame, roles: pd.DataFrame, folds: Iterable[int], endpoints: Mapping[str, Endpoint] = ALL_BINARY
) -> pd.DataFrame:
    """Test scores of two predictors that see no image, fitted on training patients only.

    Prevalence gives every slide the mean of the training slides: a share, the shares of classes, a grade or a value.
    Site-only gives a slide that mean over its TCGA tissue source site, drawn towards the prevalence by one slide's
    weight. For survival the risk of a site is its observed events over those expected from the times of its patients,
    with one event added to both. A site that training has not seen gets the prevalence.

    Parameters
    ----------
    labels : `slide_id, patient_id` and one column of numbers per task; NaN is unknown.
    roles : `patient_id, fold_0 ..`, the run's split table.
    folds : those that were trained.
    endpoints : of tasks that are not binary.

    Returns
    -------
    DataFrame : task, name, score (the primary metric of the task's kind, mean over the folds; NaN where no fold has
        one, or where patients have no site).
    """
    tasks = [column for column in labels.columns if column not in ("slide_id", "patient_id")]
    folds = list(folds)
    sites = labels["patient_id"].map(tissue_source_site)
    nowhere = pd.Series("", index=labels.index)
    known_sites = bool(sites.notna().all())
    rows: list[tuple[str, str, float]] = []
    of_patients = roles.set_index("patient_id")
    role_in = [labels["patient_id"].map(of_patients[f"fold_{fold}"]) for fold in folds]
    in_training, in_test = ([role == side for role in role_in] for side in ("train", "test"))
    for task in tasks:
        endpoint, known = endpoints.get(task, BINARY), labels[task].notna()
        sides = [(train & known, test & known) for train, test in zip(in_training, in_test, strict=True)]
        rows.append((task, PREVALENCE, _mean([_score(labels, task, endpoint, nowhere, *side) for side in sides])))
        of_sites = [_score(labels, task, endpoint, sites, *side) for side in sides] if known_sites else []
        rows.append((task, SITE, _mean(of_sites)))
    return pd.DataFrame(rows, columns=["task", "name", "score"])


def _score(
    labels: pd.DataFrame, task: str, endpoint: Endpoint, groups: pd.Series, train: pd.Series, test: pd.Series
) -> float:
    """Test score of a predictor that knows the group of a slide and nothing else."""
    if endpoint.kind == "binary":
        values = labels[task].to_numpy(dtype=float)
        answers = _shares(values, groups, train.to_numpy(dtype=bool), test.to_numpy(dtype=bool))
        return auroc(values[test], answers)
    make = _rates if endpoint.kind == "survival" else _means
    by_group, otherwise = make(labels[train], task, endpoint, groups[train])
    answers = by_group.reindex(groups[test]).fillna(otherwise).to_numpy(dtype=float)
    targets = labels.loc[test, task].to_numpy(dtype=float)
    is_survival = endpoint.kind == "survival"
    events = event_of(targets) if is_survival else np.full(len(targets), np.nan)
    patients = labels.loc[test, "patient_id"].to_numpy(dtype=object)
    return primary_score(endpoint, time_of(targets) if is_survival else targets, events, answers, patients)


def _shares(values: Floats, groups: pd.Series, train: Flags, test: Flags) -> Floats:
    """Answers of `_means` to the test slides of a binary task: sums of labels are whole numbers, so they need no pandas."""
    codes, names = pd.factorize(groups)
    share = values[train].mean() if train.any() else float("nan")
    sums, sizes = (
        np.bincount(codes[train], weights, minlength=len(names)) for weights in (values[train], np.ones(train.sum()))
    )
    return np.asarray(np.where(sizes > 0, (sums + share) / (sizes + 1), share)[codes[test]])


def _means(train: pd.DataFrame, task: str, endpoint: Endpoint, groups: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Answers by group, and those for a group that is not there."""
    values = train[task].to_frame()
    if endpoint.kind == "multiclass":
        values = pd.DataFrame({place: (train[task] == place).astype(float) for place in range(len(endpoint.classes))})
    overall = values.mean()
    found = values.groupby(groups)
    return (found.sum() + overall).div(found.size() + 1, axis=0), overall


def _rates(train: pd.DataFrame, task: str, endpoint: Endpoint, groups: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Observed over expected events by group of patients, and 1 for a group that is not there."""
    known = patient_labels(train, task, endpoint)
    group = groups.groupby(train["patient_id"], sort=False).first()
    times, events = time_of(known.to_numpy(dtype=float)), event_of(known.to_numpy(dtype=float))
    frame = pd.DataFrame({"observed": events, "expected": cumulative_hazard(times, events)}, index=known.index)
    sums = frame.groupby(group.reindex(known.index)).sum()
    return ((sums["observed"] + 1) / (sums["expected"] + 1)).to_frame("risk"), pd.Series({"risk": 1.0})


def cumulative_hazard(times: Floats, events: Floats) -> Floats:
    """Events that each patient [n] should have had until their own time, if all were alike (Nelson-Aalen)."""
    distinct, place = np.unique(times, return_inverse=True)
    leaving = np.bincount(place, minlength=len(distinct))
    at_risk = np.cumsum(leaving[::-1])[::-1]
    hazard = np.bincount(place, events, minlength=len(distinct)) / at_risk
    return np.asarray(np.cumsum(hazard)[place])


def _mean(values: Sequence[float]) -> float:
    return mean_of_defined(np.array(values, dtype=float)) if values else float("nan")
