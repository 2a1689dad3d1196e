"""Levels: every metric of every trial and task, at the level of slides and at that of patients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench import metrics
from milbench.stats.grid import Grid

Floats = NDArray[np.float64]

CELL = ["model", "task", "fold", "seed"]
METRICS = (
    "score", "average_precision", "balanced_accuracy", "f1", "sensitivity", "specificity", "threshold", "brier", "ece",
    "sensitivity_at_specificity_90", "specificity_reached", "specificity_at_sensitivity_90", "sensitivity_reached",
)  # fmt: skip
WANTED = 0.9
"""Specificity, or sensitivity, that a threshold gives on the validation rows; on the test side it reaches another."""
COLUMNS = ["dataset", "model", "title", "task", "is_control", "fold", "seed", "level", *METRICS]


def metric_table(grid: Grid) -> pd.DataFrame:
    """Every metric of every trial and task of one dataset, at both levels.

    Returns
    -------
    DataFrame : `COLUMNS`; ordered by model, task, fold and seed as registered, slides before patients.
        A patient's score is the mean over its slides, its label the largest. The threshold is Youden's on the
        trial's own validation rows of the same level; those of 90 % specificity and 90 % sensitivity are chosen there
        too. NaN where a metric is undefined (`milbench.metrics`).
    """
    slides = grid.rows[grid.rows["target"].notna()]
    levels = {"slide": _cells(slides), "patient": _cells(by_patient(slides))}
    rows = []
    for cell in levels["slide"]:
        for level, cells in levels.items():
            rows.append((*_names(grid, cell), level, *_metrics(*cells[cell])))
    rows += [(*_names(grid, cell), level, *[np.nan] * len(METRICS)) for cell in _empty(grid) for level in levels]
    table = pd.DataFrame(rows, columns=COLUMNS)
    place = [table["model"].map(grid.models.index), table["task"].map(grid.tasks.index), table["fold"], table["seed"]]
    return table.iloc[np.lexsort(place[::-1])].reset_index(drop=True)


def by_patient(slides: pd.DataFrame) -> pd.DataFrame:
    """One row per patient of every trial, task and side: mean probability, largest label."""
    patients = slides.groupby([*CELL, "is_test", "patient"])
    table = patients[["target"]].max()
    table["probability"] = patients["probability"].mean(skipna=False)  # one NaN must not hide behind other slides
    return table.reset_index()


def _empty(grid: Grid) -> Iterator[tuple[int, ...]]:
    """Cells of finished trials without a single known label."""
    known = grid.rows["target"].notna().groupby([grid.rows[key] for key in CELL]).any()
    return iter(known.index[~known])


def _names(grid: Grid, cell: tuple[int, ...]) -> tuple[object, ...]:
    model, task, fold, seed = cell
    name = grid.tasks[task]
    return (
        grid.dataset, grid.models[model], grid.titles[model], name, name in grid.controls, grid.folds[fold],
        grid.seeds[seed],
    )  # fmt: skip


def _cells(rows: pd.DataFrame) -> dict[tuple[int, ...], tuple[Floats, Floats, NDArray[np.bool_]]]:
    """(targets, probabilities, is_test) of every (model, task, fold, seed)."""
    rows = rows.sort_values(CELL, kind="stable")
    keys = rows[CELL].to_numpy()
    starts = np.flatnonzero((np.diff(keys, axis=0, prepend=-1) != 0).any(axis=1))
    parts = zip(*(np.split(rows[c].to_numpy(), starts[1:]) for c in ("target", "probability", "is_test")), strict=True)
    return {tuple(map(int, key)): part for key, part in zip(keys[starts], parts, strict=True)}


def _metrics(targets: Floats, probabilities: Floats, is_test: NDArray[np.bool_]) -> tuple[float, ...]:
    if np.isnan(probabilities).any():  # a model that diverged has no score to judge
        return (float("nan"),) * len(METRICS)
    y, p = targets[is_test], probabilities[is_test]
    threshold = metrics.youden_threshold(targets[~is_test], probabilities[~is_test])
    return (
        metrics.auroc(y, p),
        metrics.average_precision(y, p),
        metrics.balanced_accuracy(y, p, threshold),
        metrics.f1(y, p, threshold),
        metrics.sensitivity(y, p, threshold),
        metrics.specificity(y, p, threshold),
        threshold,
        metrics.brier(y, p),
        metrics.expected_calibration_error(y, p),
        *_operating(targets, probabilities, is_test),
    )


def _operating(targets: Floats, probabilities: Floats, is_test: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Sensitivity where validation has the wanted specificity, with the specificity reached; then the reverse."""
    y, p = targets[is_test], probabilities[is_test]
    validation = targets[~is_test], probabilities[~is_test]
    specific = metrics.threshold_at_specificity(*validation, WANTED)
    sensitive = metrics.threshold_at_sensitivity(*validation, WANTED)
    return (
        metrics.sensitivity(y, p, specific),
        metrics.specificity(y, p, specific),
        metrics.specificity(y, p, sensitive),
        metrics.sensitivity(y, p, sensitive),
    )
