"""Fold data: what the trainer sees of a cohort in one fold; sides, labels and the scaler of its training slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from milbench.cohorts.scaling import FITTED_MODES, FeatureScaler
from milbench.errors import DataError
from milbench.splits import Split
from milbench.training.side import Side, balanced_weights
from milbench.training.trainer import Features
from milbench.trials.plan import Trial

Floats = NDArray[np.float64]

ROLES = ("train", "val", "test")

CHANGED = (
    "{} changed while the run was going on. Start the command again; "
    "trials of the former data stay in the folder but leave the tables."
)


class FoldData(NamedTuple):
    """One fold for trials that may share a stack.

    Attributes
    ----------
    slides : by role, in the cohort's order.
    sides : by role, what the trainer sees of them.
    scaler : fitted on the training slides.
    """

    slides: Mapping[str, pd.DataFrame]
    sides: Mapping[str, Side]
    scaler: FeatureScaler


Scalers = dict[tuple[str, tuple[str, ...]], FeatureScaler]
"""Scalers by mode and training slides: fitting costs a pass over the slides, which trials of a fold share."""


def fold_data(
    slides: pd.DataFrame, split: Split, trials: Sequence[Trial], features: Features, scalers: Scalers
) -> FoldData:
    """The fold of `trials`, with a row of labels for each of them; takes its scaler from `scalers`, or adds it."""
    first = trials[0]
    by_role = {role: split.slides(slides, first.fold, role) for role in ROLES}
    sides = {role: side_of(table, trials) for role, table in by_role.items()}
    if first.recipe.class_weights == "balanced":
        sides["train"] = with_balanced_classes(sides["train"], trials)
    needed = sides["train"].slide_ids if first.feature_scaling in FITTED_MODES else ()
    key = (first.feature_scaling, needed)
    if key not in scalers:
        scalers[key] = FeatureScaler(first.feature_scaling).fit(bag.features for _, bag in features.in_order(needed))
    return FoldData(by_role, sides, scalers[key])


def side_of(slides: pd.DataFrame, trials: Sequence[Trial]) -> Side:
    """Slides with labels [S, n, T]: one row of S for each trial, which has T tasks."""
    raw = np.stack([slides[list(trial.tasks)].to_numpy(dtype=np.float64) for trial in trials])
    encoded = np.stack([_targets(labels, trial) for labels, trial in zip(raw, trials, strict=True)])
    weights = np.stack(
        [np.where(np.isnan(labels), 0, _weights(trial)) for labels, trial in zip(raw, trials, strict=True)]
    )
    return Side(
        tuple(slides["slide_id"]),
        torch.from_numpy(np.nan_to_num(encoded).astype(np.float32)),
        torch.from_numpy(weights.astype(np.float32)),
        raw,
        tuple(slides["patient_id"]),
    )


def with_balanced_classes(side: Side, trials: Sequence[Trial]) -> Side:
    """A training side on which each class of a task weighs as much as any other. Tasks without classes keep their weights."""
    weights = np.ones(side.known.shape)
    for row, trial in enumerate(trials):
        for task, endpoint in enumerate(trial.outputs.endpoints):
            if endpoint.has_classes:
                weights[row, :, task] = balanced_weights(side.labels(row)[:, task])
    return side._replace(known=side.known * torch.from_numpy(weights).to(side.known))


def _targets(labels: Floats, trial: Trial) -> Floats:
    """What the losses compare logits with [n, T], of labels [n, T]."""
    endpoints = trial.outputs.endpoints
    return np.stack([each.targets(labels[:, task]) for task, each in enumerate(endpoints)], axis=1)


def _weights(trial: Trial) -> Floats:
    """Weight [T] of each task's loss: binary tasks alone count alike, as in the study."""
    if not trial.endpoints or trial.recipe.task_weights == "equal":
        return np.ones(len(trial.tasks))
    return np.array([1 / each.constant_loss for each in trial.endpoints])


@lru_cache(maxsize=16)
def load_split(path: Path, sha256: str) -> Split:
    """The split table in `path`.

    Raises
    ------
    DataError : it is not the one that was planned with.
    """
    split = Split.from_csv(path)
    if split.sha256 != sha256:
        raise DataError(CHANGED.format(path))
    return split
