"""Answered: what models answered of the slides, and patients, of their test sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import Kind
from milbench.endpoints.fitted import FittedEndpoint
from milbench.report.curves import MOST_PANELS
from milbench.store.trial import StoredTrial

Floats = NDArray[np.float64]
Panel = tuple[str, str]
"""Task and model."""


class Answered(NamedTuple):
    """Answers of one model to one task, one row per slide or patient with a known label.

    Attributes
    ----------
    fitted : the endpoint; what folds fitted is that of the first training.
    patients : [n].
    targets : [n].
    events : [n], NaN except for survival.
    answers : [n, A], as named by `fitted.answers`; no NaN.
    """

    fitted: FittedEndpoint
    patients: NDArray[np.object_]
    targets: Floats
    events: Floats
    answers: Floats


def answers_by_slide(trials: Iterable[StoredTrial], kind: Kind) -> dict[Panel, Answered]:
    """By (task, model) every test slide with the mean of its answers over the folds and seeds that tested it.

    Not for survival: the answers of folds are on scales of their own. A slide without an answer is left out.
    """
    parts: dict[Panel, list[pd.DataFrame]] = {}
    fitted: dict[Panel, FittedEndpoint] = {}
    for trial in trials:
        for task, endpoint, rows in _test_rows(trial, kind):
            panel = (task, str(trial.info["model"]))
            fitted.setdefault(panel, endpoint)
            parts.setdefault(panel, []).append(rows)
    return {panel: _mean(pd.concat(tables), fitted[panel], "slide_id") for panel, tables in parts.items()}


def answers_of_trainings(trials: Iterable[StoredTrial], kind: Kind) -> dict[Panel, Answered]:
    """By (task, model) every test slide once per training that tested it, with what this training answered.

    Unlike a mean over trainings these answers are as certain as those of one training, however many tested a slide.
    """
    parts: dict[Panel, list[Answered]] = {}
    for trial in trials:
        for task, endpoint, rows in _test_rows(trial, kind):
            parts.setdefault((task, str(trial.info["model"])), []).append(_mean(rows, endpoint, "slide_id"))
    return {panel: _joined(answered) for panel, answered in parts.items()}


def _joined(parts: Sequence[Answered]) -> Answered:
    """All rows one after the other."""
    names = ("patients", "targets", "events", "answers")
    return Answered(parts[0].fitted, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def answers_by_patient(trial: StoredTrial, kind: Kind) -> dict[str, Answered]:
    """By task every test patient of one training with the mean of the answers over the slides."""
    return {task: _mean(rows, endpoint, "patient_id") for task, endpoint, rows in _test_rows(trial, kind)}


def _test_rows(trial: StoredTrial, kind: Kind) -> Iterable[tuple[str, FittedEndpoint, pd.DataFrame]]:
    """Rows of the test side with a known label, by task of the kind."""
    wanted = {task: endpoint for task, endpoint in trial.endpoint_of.items() if endpoint.kind == kind}
    if not wanted:
        return
    table = trial.answers()
    test = table[(table["role"] == "test") & table["target"].notna()]
    for task, endpoint in wanted.items():
        yield task, endpoint, test[test["task"] == task]


def _mean(rows: pd.DataFrame, fitted: FittedEndpoint, unit: str) -> Answered:
    """One row per slide or patient, by name: mean of each answer, label of the first row."""
    answers = rows.groupby([unit, "answer"], sort=False)["prediction"].mean(skipna=False).unstack("answer")
    answers = answers.reindex(columns=list(fitted.answers)).dropna()
    first = rows.drop_duplicates(unit).set_index(unit, drop=False).reindex(answers.index)
    patients = first["patient_id"].to_numpy(dtype=object)
    numbers = (frame.to_numpy(dtype=float) for frame in (first["target"], first["event"], answers))
    return Answered(fitted, patients, *numbers)


def panels(
    tasks: Sequence[str], models: Sequence[str], scores: Mapping[Panel, float], n_trainings: int = 1
) -> list[Panel]:
    """Panels of a figure: every model on every task, or the best model of each task if they would be too many.

    Parameters
    ----------
    scores : mean test score by task and model; NaN where there is none.
    n_trainings : panels that one task and model take.
    """
    every = [(task, model) for task in tasks for model in models]
    if len(every) * n_trainings <= MOST_PANELS:
        return every
    known = {panel: score for panel, score in scores.items() if not np.isnan(score)}
    best = [max((known.get((task, model), -np.inf), -place) for place, model in enumerate(models)) for task in tasks]
    return [(task, models[-place]) for task, (_, place) in zip(tasks, best, strict=True)][
        : max(MOST_PANELS // n_trainings, 1)
    ]
