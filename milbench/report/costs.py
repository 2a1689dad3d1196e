"""Costs: what a model takes to train and to use, from the facts stored with every trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.cohorts.bag_names import SLIDE, told_of
from milbench.report.tables import Cell, Row, Table
from milbench.report.units import BYTES, COUNT, JOULES, SECONDS, digits, shared_step
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

COST_FIELDS = (
    "multiply_adds",
    "at_patches",
    "inference_seconds",
    "bags_per_second",
    "seconds_per_epoch",
    "energy_joules",
)


def cost_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Cost of every (dataset, model).

    Returns
    -------
    DataFrame : dataset, model, title, n_parameters and multiply_adds (of one trained model; the latter for one bag
        of `at_patches` patches), seconds_per_epoch, bags_per_second, inference_seconds (one slide), peak_bytes, all
        medians over trials (the peak: the maximum); n_models_for_all_tasks; all_tasks_seconds and
        energy_joules: training every task once, in one fold with one seed, which is one training for a multi-task
        model and one per task for a single-task one. NaN where a trial of an older version recorded nothing.
    """
    rows = [_row(trial.info) for run in runs for trial in _as_registered(run)]
    frame = pd.DataFrame(rows)
    groups = frame.groupby(["dataset", "model"], sort=False)
    return pd.DataFrame([_summary(dataset, model, group) for (dataset, model), group in groups])


def _as_registered(run: Run) -> list[StoredTrial]:
    """The run's trials, models in the order of every other table."""
    places = {
        (name, model): place for name, facts in run.datasets.items() for place, model in enumerate(facts["models"])
    }
    return sorted(run.trials(), key=lambda trial: places.get((trial.info["dataset"], trial.info["model"]), len(places)))


def _row(info: Mapping[str, Any]) -> dict[str, Any]:
    cost = info.get("cost") or {}
    measured = {field: math.nan if cost.get(field) is None else float(cost[field]) for field in COST_FIELDS}
    return {
        "dataset": info["dataset"], "model": info["model"], "title": info["model_title"], "tasks": tuple(info["tasks"]),
        "fold": info["fold"], "seed": info["seed"], "n_parameters": info["n_parameters"],
        "train_seconds": info["train_seconds"], "peak_bytes": info["peak_bytes"], **measured,
    }  # fmt: skip


def _summary(dataset: Any, model: Any, trials: pd.DataFrame) -> dict[str, Any]:
    n_models = trials["tasks"].nunique()
    medians = trials[["n_parameters", *COST_FIELDS[:-1]]].median()
    return {
        "dataset": dataset, "model": model, "title": trials["title"].iloc[0],
        **medians.to_dict(),
        "peak_bytes": trials["peak_bytes"].max(),
        "n_models_for_all_tasks": n_models,
        "all_tasks_seconds": trials["train_seconds"].mean() * n_models,
        "energy_joules": trials["energy_joules"].mean() * n_models,
    }  # fmt: skip


COLUMNS: dict[str, tuple[str, str]] = {
    "n_parameters": ("parameters", COUNT),
    "multiply_adds": ("multiply-adds per bag", COUNT),
    "seconds_per_epoch": ("time per epoch", SECONDS),
    "bags_per_second": ("bags per second", COUNT),
    "inference_seconds": ("time per slide", SECONDS),
    "peak_bytes": ("peak memory", BYTES),
    "n_models_for_all_tasks": ("trainings for all tasks", COUNT),
    "all_tasks_seconds": ("time for all tasks", SECONDS),
    "energy_joules": ("energy for all tasks", JOULES),
}
"""Column by field: its header and the unit of its numbers."""


def cost_table(name: str, caption: str, costs: pd.DataFrame, bag: str = SLIDE) -> Table:
    """Models × costs of one dataset, every column in one unit; columns that no trial recorded are left out.

    Parameters
    ----------
    bag : what a bag is called.
    """
    fields = [field for field in COLUMNS if costs[field].notna().any()]
    steps = {field: _step(field, costs[field]) for field in fields}
    rows = [
        Row(str(row["title"]), tuple(_cell(row[field], steps[field][0]) for field in fields))
        for row in costs.to_dict("records")
    ]
    headers = tuple(_header(told_of(bag, COLUMNS[field][0]), steps[field][1]) for field in fields)
    return Table(name, caption, "Method", headers, tuple(rows), costs)


def _step(field: str, values: pd.Series) -> tuple[float, str]:
    """Size and name of the column's unit; small whole numbers are printed as they are."""
    unit = COLUMNS[field][1]
    return (1.0, "") if values.max() < 1e5 and unit == COUNT else shared_step(map(float, values), unit)


def _header(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title


def _cell(value: Any, size: float) -> Cell:
    return Cell() if math.isnan(value) else Cell(digits(float(value) / size))
