"""By task: the tables of an analysis with one row per task, and the draws that they come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.stats.crossed import generator, interval, p_value
from milbench.stats.ensemble import EnsembleScores, ensemble_scores
from milbench.stats.grid import Grid, TaskScores
from milbench.stats.multiplicity import benjamini_hochberg, holm
from milbench.stats.scores import coverage

Floats = NDArray[np.float64]

CELL_COLUMNS = [
    "dataset", "task", "model", "title", "is_control", "score", "sd", "low", "high", "n_missing", "n_cells",
    "ensemble_score", "ensemble_low", "ensemble_high",
]  # fmt: skip
AGAINST_COLUMNS = [
    "dataset", "task", "model", "is_control", "delta", "low", "high", "p", "p_holm", "q_bh", "p_ensemble",
]  # fmt: skip


class Resampled(NamedTuple):
    """Draws and statistics of one task.

    Attributes
    ----------
    task : its scores.
    draws : [B, M] score of every model in every crossed draw; [0, M] where the task is too small.
    ensemble : of all trainings of a model together.
    """

    task: TaskScores
    draws: Floats
    ensemble: EnsembleScores


def resample(
    dataset: str, tasks: Mapping[str, TaskScores], by_task: Mapping[str, Floats], draws: int, seed: int
) -> dict[str, Resampled]:
    """Crossed draws and ensembles of every task of one dataset.

    Parameters
    ----------
    by_task : the draws, of `milbench.stats.drawn.drawn`.
    """
    return {
        name: Resampled(task, by_task[name], ensemble_scores(task, generator(seed, dataset, name, "ensemble"), draws))
        for name, task in tasks.items()
    }


def task_table(grid: Grid, resampled: dict[str, Resampled]) -> pd.DataFrame:
    """One row per task: how many slides and patients of which class its test sides hold."""
    rows = [
        {
            "dataset": grid.dataset,
            "task": name,
            "is_control": name in grid.controls,
            "n_slides": len(task.targets),
            "n_patients": task.n_labelled,
            **_composition(task),
            "too_small": task.too_small,
        }
        for name, (task, *_) in resampled.items()
    ]
    return pd.DataFrame(rows)


def _composition(task: TaskScores) -> dict[str, object]:
    """What the test patients of a task are, in the words of its kind."""
    if task.kind == "binary":
        n_negative, n_positive = task.n_by_class
        share = n_positive / task.n_labelled if task.n_labelled else np.nan
        return {"n_positive": n_positive, "n_negative": n_negative, "prevalence": share}
    labels = task.patient_label[~np.isnan(task.patient_label)]
    if task.kind == "survival":
        n_censored, n_events = task.n_by_class
        return {"n_events": n_events, "n_censored": n_censored, "longest_days": labels.max() if len(labels) else np.nan}
    if task.kind == "regression":
        return {"mean": labels.mean(), "sd": labels.std(ddof=1)} if len(labels) > 1 else {"mean": np.nan, "sd": np.nan}
    by_class = zip(task.endpoint.classes, task.n_by_class, strict=True)
    return {"n_by_class": "; ".join(f"{name} {number}" for name, number in by_class), "n_rarest": min(task.n_by_class)}


def cell_table(grid: Grid, slides: pd.DataFrame, resampled: dict[str, Resampled]) -> pd.DataFrame:
    """One row per (task, model): mean, spread, both intervals.

    Parameters
    ----------
    slides : the scores of the dataset, at the level that the kind prints.
    """
    by_cell = slides.groupby(["task", "model"])["score"]
    mean, sd = by_cell.mean().to_dict(), by_cell.std(ddof=1).to_dict()
    rows = []
    for name, (_, draws, result) in resampled.items():
        covered = coverage(slides[slides["task"] == name])
        n_cells = max((entry.n_cells for entry in covered.values()), default=0)
        for column, (model, title) in enumerate(zip(grid.models, grid.titles, strict=True)):
            place = (name, model)
            n_missing = covered[model].n_missing if model in covered else n_cells
            rows.append((
                grid.dataset, name, model, title, name in grid.controls, mean.get(place, np.nan),
                sd.get(place, np.nan), *interval(draws[:, column]), n_missing, n_cells,
                result.scores[column],
                *result.interval(column),
            ))  # fmt: skip
    return pd.DataFrame(rows, columns=CELL_COLUMNS)


def against_table(
    grid: Grid, cells: pd.DataFrame, resampled: dict[str, Resampled], reference: str, left_out: Collection[str]
) -> pd.DataFrame:
    """One row per (task, model) for every model but the reference; NaN in tasks that are `left_out`."""
    scores = cells.set_index(["task", "model"])["score"].to_dict()
    base = grid.models.index(reference) if reference in grid.models else None
    rows = []
    for name, result in resampled.items():
        for column, model in enumerate(grid.models):
            if column == base:
                continue
            place = (grid.dataset, name, model, name in grid.controls)
            if base is None or name in left_out:
                rows.append((*place, *[np.nan] * 7))
                continue
            delta = scores[name, model] - scores[name, reference]
            rows.append((*place, delta, *_compare(result, column, base)))
    return _adjusted(pd.DataFrame(rows, columns=AGAINST_COLUMNS))


def _compare(result: Resampled, a: int, b: int) -> tuple[float, ...]:
    """low, high, p, room for p_holm and q_bh, p_ensemble."""
    if result.task.too_small:
        return (float("nan"),) * 6
    differences = result.draws[:, a] - result.draws[:, b]
    return (*interval(differences), p_value(differences), float("nan"), float("nan"), result.ensemble.p(a, b))


def _adjusted(against: pd.DataFrame) -> pd.DataFrame:
    """Holm over the models of a task; Benjamini-Hochberg over the signal tasks of a model."""
    for _, rows in against.groupby("task", sort=False):
        against.loc[rows.index, "p_holm"] = holm(rows["p"])
    for _, rows in against[~against["is_control"].astype(bool)].groupby("model", sort=False):
        against.loc[rows.index, "q_bh"] = benjamini_hochberg(rows["p"])
    return against


def unfinished(slides: pd.DataFrame, models: Sequence[str]) -> tuple[str, ...]:
    """Tasks of one dataset that some of `models` did not finish, in order."""
    tasks = []
    for name, rows in slides.groupby("task", sort=False):
        covered = coverage(rows)
        if any(model not in covered or covered[model].n_missing for model in models):
            tasks.append(str(name))
    return tuple(tasks)
