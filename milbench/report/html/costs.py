"""What a model costs, by cohort: medians over its trials, and the training of all tasks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.report.html.data import COSTS
from milbench.store import StoredTrial

MEASURED = ("multiply_adds", "at_patches", "seconds_per_epoch", "bags_per_second", "inference_seconds", "energy_joules")


def costs_of(trials: Sequence[StoredTrial]) -> pd.DataFrame:
    """One row a (cohort, model); NaN where a trial has no `cost` section, as older runs have none."""
    rows = pd.DataFrame([_row(trial.info) for trial in trials])
    if rows.empty:
        return pd.DataFrame(columns=list(COSTS))
    found = [_of_model(group) for _, group in rows.groupby(["dataset", "model"], sort=False)]
    return pd.DataFrame(found, columns=list(COSTS)).reset_index(drop=True)


def _row(info: Mapping[str, Any]) -> dict[str, Any]:
    cost = info.get("cost") or {}
    return {
        "dataset": info["dataset"], "model": info["model"], "title": info["model_title"], "tasks": "\n".join(info["tasks"]),
        "fold": info["fold"], "seed": info["seed"], "n_parameters": info["n_parameters"],
        "peak_bytes": info["peak_bytes"], "train_seconds": info["train_seconds"],
        **{name: cost.get(name) for name in MEASURED},
    }  # fmt: skip


def _of_model(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    measured = {name: pd.to_numeric(rows[name], errors="coerce").median() for name in MEASURED}
    return {
        "dataset": first["dataset"], "model": first["model"], "title": first["title"],
        "n_parameters": rows["n_parameters"].median(), "peak_bytes": rows["peak_bytes"].max(),
        "all_tasks_seconds": _all_tasks(rows), **measured,
    }  # fmt: skip


def _all_tasks(rows: pd.DataFrame) -> float:
    """Seconds to train every task once: the sum over single-task trainings, or one multi-task training."""
    return float(rows.groupby("tasks")["train_seconds"].median().sum())
