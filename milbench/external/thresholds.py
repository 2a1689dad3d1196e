"""Thresholds: where a call is made, chosen on the run's validation rows and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from milbench.metrics import youden_threshold
from milbench.stats.ensemble import logit_of
from milbench.store.trial import StoredTrial

Floats = NDArray[np.float64]
NAN = float("nan")


class Thresholds(NamedTuple):
    """Of one model and task.

    Attributes
    ----------
    of_folds : mean of the thresholds of all trainings, each Youden's on its own validation side.
    of_ensemble : Youden's on the scores that each validation slide or patient has of trainings that did not learn from it.
    """

    of_folds: float
    of_ensemble: float


def binary_thresholds(trials: Sequence[StoredTrial], task: str, level: str) -> Thresholds:
    """Thresholds of a binary task in probabilities; NaN where validation sides hold one class.

    Parameters
    ----------
    trials : all trainings of a model.
    level : "slide" or "patient".
    """
    unit = f"{level}_id"
    sides = [_validation(trial, task, unit) for trial in trials]
    own = [youden_threshold(side["target"].to_numpy(), side["prediction"].to_numpy()) for side in sides]
    left_out = pd.concat(sides).assign(logit=lambda rows: logit_of(rows["prediction"].to_numpy()))
    by_unit = left_out.groupby(unit).agg(target=("target", "max"), logit=("logit", "mean"))
    threshold = youden_threshold(by_unit["target"].to_numpy(), by_unit["logit"].to_numpy())
    return Thresholds(float(np.nanmean(own)) if np.isfinite(own).any() else NAN, float(expit(threshold)))


def _validation(trial: StoredTrial, task: str, unit: str) -> pd.DataFrame:
    """Label and probability of each validation slide or patient with a label."""
    rows = trial.answers()
    rows = rows[(rows["role"] == "val") & (rows["task"] == task) & rows["target"].notna()]
    return rows.groupby(unit, as_index=False).agg(target=("target", "max"), prediction=("prediction", "mean"))


def risk_threshold(trials: Sequence[StoredTrial], task: str) -> Thresholds:
    """The median risk of training patients, on the scale of an ensemble; folds have no scale in common."""
    told = [trial.info["training_risk"][task] for trial in trials]
    standardised = [(risk["median"] - risk["mean"]) / (risk["sd"] or 1.0) for risk in told]
    return Thresholds(NAN, float(np.mean(standardised)))
