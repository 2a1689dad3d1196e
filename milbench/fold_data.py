"""Fold data: what the trainer sees of a cohort in one fold; sides, labels and the scaler of its training slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from milbench.errors import DataError
from milbench.learner import Side
from milbench.plan import Trial
from milbench.scaling import FITTED_MODES, FeatureScaler
from milbench.splits import Split
from milbench.trainer import Features

ROLES = ("train", "val", "test")

CHANGED = (
    "{} changed while the run was going on. Start the command again; "
    "trials of the former data stay in the folder but leave the tables."
)


class FoldData(NamedTuple):
    """One fold for trials that differ in their tasks only.

    Attributes
    ----------
    slides : by role, in the cohort's order.
    sides : by role, what the trainer sees of them.
    scaler : fitted on the training slides.
    """

    slides: Mapping[str, pd.DataFrame]
    sides: Mapping[str, Side]
    scaler: FeatureScaler


def fold_data(slides: pd.DataFrame, split: Split, trials: Sequence[Trial], features: Features) -> FoldData:
    """The fold of `trials`, with a row of labels for each of them."""
    first = trials[0]
    by_role = {role: split.slides(slides, first.fold, role) for role in ROLES}
    sides = {role: side_of(table, [trial.tasks for trial in trials]) for role, table in by_role.items()}
    needed = sides["train"].slide_ids if first.feature_scaling in FITTED_MODES else ()
    return FoldData(by_role, sides, _scaler(features, first.feature_scaling, needed))


def side_of(slides: pd.DataFrame, tasks: Sequence[Sequence[str]]) -> Side:
    """Slides with labels [S, n, T]: one row of S for each group of T tasks."""
    labels = np.stack([slides[list(group)].to_numpy(dtype=np.float32) for group in tasks])
    known = ~np.isnan(labels)
    targets = torch.from_numpy(np.where(known, labels, 0).astype(np.float32))
    return Side(tuple(slides["slide_id"]), targets, torch.from_numpy(known.astype(np.float32)))


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


@lru_cache(maxsize=16)
def _scaler(features: Features, mode: str, slide_ids: tuple[str, ...]) -> FeatureScaler:
    """Fitted once for all trials of a fold: with scaling it costs a pass over the training slides."""
    return FeatureScaler(mode).fit(bag for _, bag in features.in_order(slide_ids))
