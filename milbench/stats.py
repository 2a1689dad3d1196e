"""Statistics: pure functions of stored predictions -> tables of scores. NumPy and pandas only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from milbench.metrics import auroc
from milbench.store import Run, StoredTrial

SPREAD = "standard deviation over folds and seeds: training variability on one test set, not a confidence interval"


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Test AUROC of every trial and task.

    Returns
    -------
    DataFrame : dataset, model, title, task, is_control, fold, seed, auroc (slide level; NaN where the test
        side holds one class), in the order of the models' registration and of the cohorts' tasks.
    """
    rows = [row for run in runs for trial in run.trials() for row in _trial_rows(run, trial)]
    columns = ["dataset", "model", "title", "task", "is_control", "fold", "seed", "auroc"]
    order = {name: index for run in runs for index, name in enumerate(_order(run))}
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(
        ["dataset", "model", "task", "fold", "seed"],
        key=lambda column: (
            column.map(lambda value: order.get(value, len(order))) if column.name in ("model", "task") else column
        ),
        kind="stable",
        ignore_index=True,
    )


def _order(run: Run) -> Iterator[str]:
    """Models in the order of the registry, then tasks in the order of their cohort."""
    for facts in run.datasets.values():
        yield from facts.get("models", [])
        yield from facts["tasks"]


def _trial_rows(run: Run, trial: StoredTrial) -> list[tuple[object, ...]]:
    info, table = trial.info, trial.predictions()
    test = table[table["role"] == "test"]
    controls = set(run.datasets[info["dataset"]].get("control_tasks", []))
    return [
        (
            info["dataset"], info["model"], info["model_title"], task, task in controls, info["fold"], info["seed"],
            auroc(rows["target"].to_numpy(dtype=float), rows["probability"].to_numpy(dtype=float)),
        )
        for task, rows in test.groupby("task", sort=False)
    ]  # fmt: skip


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks within each fold and seed, then mean and spread over those.

    Parameters
    ----------
    scores : rows of `score_table`.

    Returns
    -------
    DataFrame : dataset, model, title, mean, sd (NaN for a single fold), n_runs (folds × seeds), n_tasks,
        n_undefined ((task, fold) pairs without AUROC, left out). Control tasks are left out. `n_missing` counts the
        (task, fold, seed) cells that another model of the same dataset has and this one lacks: a mean over other
        cells is not comparable, and whoever prints it must say so.
    """
    signal = scores[~scores["is_control"].astype(bool)]
    cells = signal.groupby("dataset").apply(_cells, include_groups=False) if len(signal) else {}
    rows = []
    for (dataset, model), group in signal.groupby(["dataset", "model"], sort=False):
        per_run = group.groupby(["fold", "seed"])["auroc"].mean()  # pandas leaves NaN out
        rows.append(
            {
                "dataset": dataset,
                "model": model,
                "title": group["title"].iloc[0],
                "mean": per_run.mean(),
                "sd": per_run.std(ddof=1) if len(per_run) > 1 else np.nan,
                "n_runs": len(per_run),
                "n_tasks": group["task"].nunique(),
                "n_undefined": int(group["auroc"].isna().sum()),
                "n_missing": len(cells[dataset] - _cells(group)),
            }
        )
    columns = ["dataset", "model", "title", "mean", "sd", "n_runs", "n_tasks", "n_undefined", "n_missing"]
    return pd.DataFrame(rows, columns=columns)


def _cells(rows: pd.DataFrame) -> set[tuple[object, ...]]:
    return set(rows[["task", "fold", "seed"]].itertuples(index=False, name=None))
