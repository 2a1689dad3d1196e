"""Cohort: slides × tasks, and a way to load each slide as a `Bag`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from milbench.bag import Bag


@dataclass(frozen=True, eq=False)
class Cohort:
    """Slides with labels, and their features on demand.

    Attributes
    ----------
    name : e.g. "tcga-brca"; appears in trial ids, file names and tables.
    slides : DataFrame with `slide_id` (str), `patient_id` (str) and one float column a task in
        {0, 1, NaN}; NaN = label unknown. In file order.
    tasks : the task columns, in order.
    in_features : width D of every patch's features.
    fingerprint : hash of labels and of the feature files' identity.
    load : slide_id -> Bag, checked (width, finite, not empty).
    splits : protocol that the cohort asks for by default: "kfold", "m4" or a file's path.
    n_folds : folds that run by default.
    feature_scaling : "none", "standard", "minmax" (to [-1, 1]) or "l2"; fitted on training slides only.
    model_defaults, trainer_defaults : settings fit for the cohort's size, the same for every model.
    title : how tables call it; empty = its name.
    control_tasks : tasks without signal, shown but left out of averages.
    notes : what was noticed while reading (contradictory labels, slides skipped, ...), for the run log.
    """

    name: str
    slides: pd.DataFrame
    tasks: tuple[str, ...]
    in_features: int
    fingerprint: str
    load: Callable[[str], Bag]
    splits: str = "kfold"
    n_folds: int = 5
    feature_scaling: str = "none"
    model_defaults: Mapping[str, Any] = field(default_factory=dict)
    trainer_defaults: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    control_tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
