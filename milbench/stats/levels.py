"""Levels: every metric of every trial and task, at the level of slides and at that of patients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.stats.grid import Grid
from milbench.stats.kind_metrics import COLUMNS as METRICS
from milbench.stats.kind_metrics import Cell, metrics_of

CELL = ["model", "task", "fold", "seed"]
PLACE = ["dataset", "model", "title", "task", "is_control", "fold", "seed", "level"]


def metric_table(grid: Grid) -> pd.DataFrame:
    """Every metric of every trial and task of one dataset, at both levels.

    Returns
    -------
    DataFrame : `PLACE` and the metrics of the grid's kind (`milbench.stats.kind_metrics.COLUMNS`), those of single
        classes last; ordered by model, task, fold and seed as registered, slides before patients. A patient's answers
        are the means over its slides, its label the largest of a binary task and else that of its first slide.
        Thresholds are chosen on the trial's own validation rows of the same level. NaN where a metric is undefined
        (`milbench.metrics`).
    """
    slides = grid.rows[grid.rows["target"].notna()]
    levels = {"slide": _cells(grid, slides), "patient": _cells(grid, by_patient(slides, largest=grid.kind == "binary"))}
    rows = []
    for cell, of_slides in levels["slide"].items():
        of_patients = levels["patient"][cell]
        found = metrics_of(of_slides)
        rows.append({**_names(grid, cell), "level": "slide", **found})
        # where every patient has one slide, as in most cohorts, both levels are the same rows
        found = found if _same_rows(of_slides, of_patients) else metrics_of(of_patients)
        rows.append({**_names(grid, cell), "level": "patient", **found})
    rows += [{**_names(grid, cell), "level": level} for cell in _empty(grid) for level in levels]
    columns = list(dict.fromkeys([*PLACE, *METRICS[grid.kind], *(name for row in rows for name in row)]))
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[len(PLACE) :], float))
    place = [table["model"].map(grid.models.index), table["task"].map(grid.tasks.index), table["fold"], table["seed"]]
    return table.iloc[np.lexsort(place[::-1])].reset_index(drop=True)


def by_patient(slides: pd.DataFrame, *, largest: bool = True) -> pd.DataFrame:
    """One row per patient, answer and side of every trial and task: mean prediction, one label.

    Parameters
    ----------
    largest : the label is the largest of the patient's slides; else that of its first slide.
    """
    patients = slides.groupby([*CELL, "is_test", "patient", "answer"])
    table = patients[["target"]].max() if largest else patients[["target"]].first()
    table["event"] = patients["event"].first()
    table["prediction"] = patients["prediction"].mean(skipna=False)  # one NaN must not hide behind other slides
    return table.reset_index()


def _empty(grid: Grid) -> Iterator[tuple[int, ...]]:
    """Cells of finished trials without a single known label."""
    known = grid.rows["target"].notna().groupby([grid.rows[key] for key in CELL]).any()
    return iter(known.index[~known])


def _names(grid: Grid, cell: tuple[int, ...]) -> dict[str, object]:
    model, task, fold, seed = cell
    name = grid.tasks[task]
    return {
        "dataset": grid.dataset, "model": grid.models[model], "title": grid.titles[model], "task": name,
        "is_control": name in grid.controls, "fold": grid.folds[fold], "seed": grid.seeds[seed],
    }  # fmt: skip


def _same_rows(one: Cell, other: Cell) -> bool:
    """Whether both hold the same rows on either side, in the same order; sides may be mixed otherwise."""
    return all(
        np.array_equal(mine[side(one)], theirs[side(other)], equal_nan=True)
        for side in (_test_side, _validation_side)
        for mine, theirs in zip(one[:3], other[:3], strict=True)
    )


def _test_side(cell: Cell) -> NDArray[np.bool_]:
    return cell.is_test


def _validation_side(cell: Cell) -> NDArray[np.bool_]:
    return ~cell.is_test


def _cells(grid: Grid, rows: pd.DataFrame) -> dict[tuple[int, ...], Cell]:
    """By codes of model, task, fold and seed."""
    rows = rows.sort_values(CELL, kind="stable")
    keys = rows[CELL].to_numpy()
    starts = np.flatnonzero((np.diff(keys, axis=0, prepend=-1) != 0).any(axis=1))
    columns = ("target", "event", "prediction", "is_test")
    parts = zip(*(np.split(rows[name].to_numpy(), starts[1:]) for name in columns), strict=True)
    found: dict[tuple[int, ...], Cell] = {}
    for key, (targets, events, predictions, is_test) in zip(keys[starts], parts, strict=True):
        model, task, fold, seed = map(int, key)
        fitted = grid.facts[model, fold, seed, task].fitted
        step = len(fitted.answers)  # the answers to a slide lie side by side
        found[model, task, fold, seed] = Cell(
            targets[::step], events[::step], predictions.reshape(-1, step), is_test[::step], fitted,
            grid.follow_up.get((task, fold)),
        )  # fmt: skip
    return found
