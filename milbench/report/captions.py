"""Captions: what must be said of how the numbers came about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.stats import SPREAD, SPREAD_OF_SIDES
from milbench.store import Run


def how(runs: Sequence[Run], scores: pd.DataFrame, datasets: Mapping[str, Any]) -> str:
    """Protocol, folds, seeds, epochs, cohorts, what is undefined, version and commit, as sentences.

    Parameters
    ----------
    scores : rows of `milbench.stats.score_table` for `datasets`.
    datasets : facts by name, as the runs hold them; trials of others are left out.
    """
    infos = [trial.info for run in runs for trial in run.trials() if trial.info["dataset"] in datasets]
    parts = [
        f"Protocol {distinct(info['protocol'] for info in infos)}; folds {distinct(info['fold'] for info in infos)}; "
        f"seeds {distinct(info['seed'] for info in infos)}; epochs {distinct(info['recipe']['epochs'] for info in infos)}.",
        *(about(name, facts) for name, facts in datasets.items()),
        *undefined(scores, datasets),
    ]
    commits = distinct(run.environment.get("git") or "unknown" for run in runs)
    return " ".join([*parts, f"milbench {distinct(run.environment['milbench'] for run in runs)}, commit {commits}."])


def spread_means(datasets: Mapping[str, Any]) -> str:
    """What ± stands for."""
    differ = any(facts.get("test_side_differs", False) for facts in datasets.values())
    return f"± is the {SPREAD_OF_SIDES if differ else SPREAD}."


def about(name: str, facts: Mapping[str, Any]) -> str:
    """A sentence on one cohort: size, splits, settings."""
    settings = {**facts["model_defaults"], **facts["trainer_defaults"]}
    controls = facts.get("control_tasks", [])
    parts = [f"{facts['title']}: {facts['n_slides']} slides, {facts['n_patients']} patients, {facts['splits']} splits"]
    if facts["scaling"] != "none":
        parts[0] += f", features scaled by {facts['scaling']}"
    if settings:
        parts.append("settings of all models: " + ", ".join(f"{key} {value}" for key, value in settings.items()))
    if controls:
        parts.append(f"{', '.join(controls)} left out of means")
    return "; ".join(parts) + "."


def undefined(scores: pd.DataFrame, datasets: Mapping[str, Any]) -> list[str]:
    """A sentence for every cohort with (task, fold) pairs that have no AUROC."""
    pairs = scores.loc[scores["auroc"].isna(), ["dataset", "task", "fold"]].drop_duplicates()
    return [
        f"{datasets[name]['title']}: {len(rows)} (task, fold) pairs have no AUROC and are left out of means ("
        + "; ".join(f"{task} in folds {distinct(group['fold'])}" for task, group in rows.groupby("task", sort=False))
        + ")."
        for name, rows in pairs.groupby("dataset", sort=False)
    ]


def distinct(values: Iterable[Any]) -> str:
    """The distinct values, sorted, as text."""
    return ", ".join(str(value) for value in sorted(set(values)))
