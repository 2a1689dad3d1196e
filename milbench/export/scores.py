"""Scores: what the exported model reached on the run's own test side, with the intervals of the report."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import pandas as pd

from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.endpoints.endpoint import Kind
from milbench.export.chosen import Chosen, training_name
from milbench.stats.analysis import Analysis, analyse_grids
from milbench.stats.grid import grid_of_trials
from milbench.store.trial import StoredTrial

NOT_OF_A_TRAINING = ("dataset", "task", "model", "title", "is_control", "fold", "seed", "level", "score")
NOT_OF_THE_TEST_SIDE = ("dataset", "task", "is_control", "too_small")


def scores_of(chosen: Chosen, draws: int) -> dict[str, dict[str, Any]]:
    """By task, as plain values; None where a number is undefined.

    ============  =====================================================================================================
    exported      score of what is exported, patient by patient, with a 95 % interval over patients. Of an ensemble it is
                  None if the folds have other test patients, because then every patient was seen by some training
    trainings     mean of all finished trainings of the model, with the report's 95 % interval over patients and folds
    each          every metric of each exported training, of slides and of patients
    ============  =====================================================================================================
    """
    found: dict[str, dict[str, Any]] = {}
    for kind in chosen.kinds:
        own = _analysis(chosen, chosen.trials, kind, draws)
        every = own if chosen.is_ensemble else _analysis(chosen, chosen.finished, kind, draws)
        for task in own.tasks["task"]:
            found[task] = _of_task(chosen, task, own, every)
    return found


def _analysis(chosen: Chosen, trials: Sequence[StoredTrial], kind: Kind, draws: int) -> Analysis:
    grid = grid_of_trials(chosen.run, chosen.source.dataset, trials, kind)
    return analyse_grids([grid], reference=chosen.model, draws=draws)


def _of_task(chosen: Chosen, task: str, own: Analysis, every: Analysis) -> dict[str, Any]:
    cell, mean, side = (_row(frame, task) for frame in (own.cells, every.cells, own.tasks))
    rows = own.scores[(own.scores["task"] == task) & own.scores["level"].isin(chosen.levels)]
    left_out = NOT_OF_THE_TEST_SIDE if SLIDE in chosen.levels else (*NOT_OF_THE_TEST_SIDE, "n_slides")
    return {
        "kind": own.kind,
        "metric": own.metric.name,
        "title": own.metric.title,
        "is_control": bool(side["is_control"]),
        "test_side": {name: _plain(value) for name, value in side.items() if name not in left_out},
        "too_small_for_an_interval": bool(side["too_small"]),
        "exported": {
            "level": "patient",
            **{name: _plain(cell[f"ensemble_{name}"]) for name in ("score", "low", "high")},
        },
        "trainings": {
            "level": own.metric.level if SLIDE in chosen.levels else PATIENT,
            "number": int(mean["n_cells"] - mean["n_missing"]),
            **{name: _plain(mean[name]) for name in ("score", "sd", "low", "high")},
            "n_patients": int(_row(every.tasks, task)["n_patients"]),
        },
        "each": {training_name(trial): _of_training(rows, trial, own.metric.name) for trial in chosen.trials},
    }


def _of_training(rows: pd.DataFrame, trial: StoredTrial, metric: str) -> dict[str, Any]:
    mine = rows[(rows["fold"] == trial.info["fold"]) & (rows["seed"] == trial.info["seed"])].set_index("level")
    return {
        str(level): {
            metric: _plain(row["score"]),
            **{name: _plain(value) for name, value in row.items() if name not in NOT_OF_A_TRAINING},
        }
        for level, row in mine.iterrows()
    }


def _row(frame: pd.DataFrame, task: str) -> pd.Series:
    return frame[frame["task"] == task].iloc[0]


def _plain(value: Any) -> Any:
    """The value for JSON, which knows no NaN."""
    if isinstance(value, str):
        return value
    number = float(value)
    if not isfinite(number):
        return None
    return int(number) if isinstance(value, int) or str(getattr(value, "dtype", "")).startswith("int") else number
