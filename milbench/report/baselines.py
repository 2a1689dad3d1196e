"""Rows that need no image: what a model must beat before its AUROC says anything about tissue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from milbench.labels.barcode import tissue_source_site
from milbench.metrics import auroc, mean_of_defined

PREVALENCE, SITE = "prevalence", "site-only"
TITLES = {PREVALENCE: "Prevalence (no image)", SITE: "Site only (no image)"}


def no_image_baselines(labels: pd.DataFrame, roles: pd.DataFrame, folds: Iterable[int]) -> pd.DataFrame:
    """Test AUROC of two predictors that see no image, fitted on training patients only.

    Prevalence gives every slide the same score. Site-only gives a slide the share of positive training slides
    from its TCGA tissue source site, drawn towards the prevalence by one slide's weight; a site that training
    has not seen gets the prevalence.

    Parameters
    ----------
    labels : `slide_id, patient_id` and one column per task in {0, 1, NaN}.
    roles : `patient_id, fold_0 ..`, the run's split table.
    folds : those that were trained.

    Returns
    -------
    DataFrame : task, name, score (AUROC, mean over the folds; NaN where no fold has one, or where patients have no site).
    """
    tasks = [column for column in labels.columns if column not in ("slide_id", "patient_id")]
    folds = list(folds)
    sites = labels["patient_id"].map(tissue_source_site)
    rows: list[tuple[str, str, float]] = []
    for task in tasks:
        sides = [_sides(labels, roles, fold, task) for fold in folds]
        rows.append((task, PREVALENCE, _mean([_constant(labels[task], test) for _, test in sides])))
        known_sites = bool(sites.notna().all())
        scores = [_site_only(labels[task], sites, train, test) for train, test in sides] if known_sites else []
        rows.append((task, SITE, _mean(scores)))
    return pd.DataFrame(rows, columns=["task", "name", "score"])


def _sides(labels: pd.DataFrame, roles: pd.DataFrame, fold: int, task: str) -> tuple[pd.Series, pd.Series]:
    """Masks of the labelled training and test slides."""
    role = labels["patient_id"].map(roles.set_index("patient_id")[f"fold_{fold}"])
    known = labels[task].notna()
    return (role == "train") & known, (role == "test") & known


def _constant(targets: pd.Series, test: pd.Series) -> float:
    return auroc(targets[test].to_numpy(dtype=float), np.zeros(int(test.sum())))


def _site_only(targets: pd.Series, sites: pd.Series, train: pd.Series, test: pd.Series) -> float:
    prevalence = targets[train].mean()
    by_site = targets[train].groupby(sites[train]).agg(["sum", "count"])
    rate = (by_site["sum"] + prevalence) / (by_site["count"] + 1)
    scores = sites[test].map(rate).astype(float).fillna(prevalence)
    return auroc(targets[test].to_numpy(dtype=float), scores.to_numpy())


def _mean(values: Sequence[float]) -> float:
    return mean_of_defined(np.array(values, dtype=float)) if values else float("nan")
