"""Scores: stored predictions -> the primary metric of every trial and task, and means over tasks of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import KINDS, Endpoint, Kind
from milbench.endpoints.fitted import FittedEndpoint
from milbench.metrics import auroc, concordance, macro_auroc, pearson, quadratic_kappa
from milbench.store.columns import Columns
from milbench.store.run import Run
from milbench.store.trial import PREDICTIONS, StoredTrial

Floats = NDArray[np.float64]
Role = Literal["val", "test"]

SPREAD = "standard deviation over folds and seeds: training variability on one test set, not a confidence interval"
SPREAD_OF_SIDES = (
    "standard deviation over folds and seeds: variability of training and of the test patients, which differ between "
    "folds, not a confidence interval"
)


def kinds_of(runs: Sequence[Run]) -> tuple[Kind, ...]:
    """Kinds of the tasks that have a finished trial, in the order of `milbench.endpoints.endpoint.KINDS`."""
    found = {fitted.kind for run in runs for trial in run.trials() for fitted in trial.endpoint_of.values()}
    return tuple(kind for kind in KINDS if kind in found)


def score_table(runs: Sequence[Run], kind: Kind = "binary", role: Role = "test") -> pd.DataFrame:
    """Test score of every trial and task of one kind, by its primary metric; or that on the validation side.

    Returns
    -------
    DataFrame : dataset, model, title, task, is_control, fold, seed, score (of slides, for survival of patients; NaN
        where it is undefined, as where the test side holds one class), in the order of the models' registration and of
        the cohorts' tasks.
    """
    rows = [
        (*_place(run, row), row)
        for run in runs
        for trial in run.trials()
        for row in _trial_rows(run, trial, kind, role)
    ]
    columns = ["dataset", "model", "title", "task", "is_control", "fold", "seed", "score"]
    return pd.DataFrame([row for *_, row in sorted(rows, key=lambda entry: entry[:-1])], columns=columns)


def _place(run: Run, row: tuple[object, ...]) -> tuple[object, ...]:
    """Sort key of a row: cohorts by name, models as registered, tasks as in their own cohort, then fold and seed."""
    dataset, model, _, task, _, fold, seed, _ = row
    facts = run.datasets[str(dataset)]
    return dataset, _index(facts["models"], model), model, _index(facts["tasks"], task), fold, seed


def _index(names: Sequence[object], name: object) -> int:
    return names.index(name) if name in names else len(names)


def _trial_rows(run: Run, trial: StoredTrial, kind: Kind, role: Role) -> list[tuple[object, ...]]:
    info, endpoints = trial.info, trial.endpoint_of
    controls = set(run.datasets[info["dataset"]].get("control_tasks", []))
    return [
        (info["dataset"], info["model"], info["model_title"], task, task in controls, info["fold"], info["seed"], value)
        for task, value in scores_on(trial, role).items()
        if endpoints[task].kind == kind
    ]


def scores_on_test(trial: StoredTrial) -> Mapping[str, float]:
    """Test score by task, each by the primary metric of its kind; NaN where undefined. Files are read once per process."""
    return scores_on(trial, "test")


def scores_on(trial: StoredTrial, role: Role) -> Mapping[str, float]:
    """The same as `scores_on_test` of one side of the split."""
    endpoints = tuple(trial.endpoint_of.items()) if trial.endpoints else ()
    key = (trial.path / PREDICTIONS, trial.info["payload_sha256"][PREDICTIONS], endpoints, role)
    if key not in _FOUND:
        rows = trial.stored_columns()
        rows = rows.where(rows.role.are(role))
        _FOUND[key] = MappingProxyType(_scores_in(rows, endpoints) if endpoints else _aurocs_in(rows))
    return _FOUND[key]


_FOUND: dict[tuple[Path, str, tuple[tuple[str, FittedEndpoint], ...], Role], Mapping[str, float]] = {}
"""Scores by file, checksum of what it holds, and side: a command asks for the same ones several times."""


def _aurocs_in(rows: Columns) -> dict[str, float]:
    """AUROC by task of one side's rows."""
    of_tasks = {name: rows.task.are(name) for name in rows.task.used()}
    return {name: auroc(rows.target[own], rows.prediction[own]) for name, own in of_tasks.items()}


def _scores_in(rows: Columns, endpoints: tuple[tuple[str, FittedEndpoint], ...]) -> dict[str, float]:
    """Score by task of one side's rows, one row per slide, task and answer."""
    patients = rows.patient_id.texts()
    values = {}
    for name, fitted in endpoints:
        own, step = rows.task.are(name), len(fitted.answers)  # the answers to a slide lie side by side
        target, event = (column[own][::step] for column in (rows.target, rows.event))
        answers = rows.prediction[own].reshape(-1, step)
        values[name] = primary_score(fitted.endpoint, target, event, answers, patients[own][::step])
    return values


def primary_score(
    endpoint: Endpoint, targets: Floats, events: Floats, answers: Floats, patients: NDArray[np.object_]
) -> float:
    """The primary metric of slides [n] with answers [n, A]; of survival that of their patients."""
    if endpoint.kind == "multiclass":
        return macro_auroc(targets, answers)
    if endpoint.kind == "ordinal":
        from milbench.endpoints.answers import decoded_grade  # it brings SciPy

        n_grades = len(endpoint.classes)
        return quadratic_kappa(targets, decoded_grade(answers[:, 0], n_grades), n_grades)
    if endpoint.kind == "regression":
        return pearson(targets, answers[:, 0])
    if endpoint.kind == "binary":
        return auroc(targets, answers[:, 0])
    known = ~np.isnan(targets)
    _, first, place = np.unique(patients[known].astype(str), return_index=True, return_inverse=True)
    risks = np.bincount(place, answers[known, 0]) / np.bincount(place)
    return concordance(targets[known][first], events[known][first], risks)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks within each fold and seed, then mean and spread over those.

    Parameters
    ----------
    scores : rows of `score_table`.

    Returns
    -------
    DataFrame : dataset, model, title, mean, sd (NaN for a single fold), n_runs (folds × seeds), n_tasks,
        n_undefined ((task, fold, seed) cells without a score, left out), n_missing and n_cells (see `coverage`).
        Control tasks are left out. A mean with missing cells is not comparable, and whoever prints it must say so.
    """
    signal = scores[~scores["is_control"].astype(bool)]
    covered = {dataset: coverage(group) for dataset, group in signal.groupby("dataset")}
    rows = []
    for (dataset, model), group in signal.groupby(["dataset", "model"], sort=False):
        per_run = group.groupby(["fold", "seed"])["score"].mean()  # pandas leaves NaN out
        rows.append(
            {
                "dataset": dataset,
                "model": model,
                "title": group["title"].iloc[0],
                "mean": per_run.mean(),
                "sd": per_run.std(ddof=1) if len(per_run) > 1 else np.nan,
                "n_runs": len(per_run),
                "n_tasks": group["task"].nunique(),
                "n_undefined": int(group["score"].isna().sum()),
                **covered[dataset][model]._asdict(),
            }
        )
    columns = ["dataset", "model", "title", "mean", "sd", "n_runs", "n_tasks", "n_undefined", "n_missing", "n_cells"]
    return pd.DataFrame(rows, columns=columns)


class Coverage(NamedTuple):
    """How much of a grid one model fills.

    Attributes
    ----------
    n_missing : cells that another model has and this one lacks.
    n_cells : cells that some model has.
    """

    n_missing: int
    n_cells: int


def coverage(scores: pd.DataFrame) -> dict[str, Coverage]:
    """How much of the (task, fold, seed) grid each model fills; `scores` are rows of one dataset.

    A cell counts where its score is defined. One that no model can have, since its test side holds one class,
    is missing from none.
    """
    defined = scores.dropna(subset=["score"])
    cells: dict[str, set[tuple[object, ...]]] = {model: set() for model in scores["model"].unique()}
    for model, *cell in zip(*(defined[name].tolist() for name in ("model", "task", "fold", "seed")), strict=True):
        cells[model].add(tuple(cell))
    whole = set().union(*cells.values())
    return {model: Coverage(len(whole - own), len(whole)) for model, own in cells.items()}
