"""Captions: what must be said of how the numbers came about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.stats.scores import SPREAD, SPREAD_OF_SIDES
from milbench.store.run import Run


def how(runs: Sequence[Run], scores: pd.DataFrame, datasets: Mapping[str, Any]) -> str:
    """Protocol, folds, seeds, epochs, cohorts, what is undefined, version and commit if known, as sentences.

    Parameters
    ----------
    scores : rows of `milbench.stats.scores.score_table` for `datasets`.
    datasets : facts by name, as the runs hold them; trials of others are left out.
    """
    infos = [trial.info for run in runs for trial in run.trials() if trial.info["dataset"] in datasets]
    parts = [
        f"Protocol {distinct(info['protocol'] for info in infos)}; folds {distinct(info['fold'] for info in infos)}; "
        f"seeds {distinct(info['seed'] for info in infos)}; epochs {distinct(info['recipe']['epochs'] for info in infos)}.",
        *(about(name, facts, [info for info in infos if info["dataset"] == name]) for name, facts in datasets.items()),
        *undefined(scores, datasets),
    ]
    known = [_short(commit) for run in runs if (commit := run.environment.get("git"))]
    commits = f", commit {distinct(known)}" if known else ""
    return " ".join([*parts, f"milbench {distinct(run.environment['milbench'] for run in runs)}{commits}."])


def _short(commit: str) -> str:
    """Twelve digits of a commit and whether the checkout was changed; the page holds all forty."""
    digits, dash, dirty = commit.partition("-")
    return digits[:12] + dash + dirty


def spread_means(datasets: Mapping[str, Any]) -> str:
    """What ± stands for."""
    differ = any(facts.get("test_side_differs", False) for facts in datasets.values())
    return f"± is the {SPREAD_OF_SIDES if differ else SPREAD}."


def about(name: str, facts: Mapping[str, Any], infos: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on one cohort: size, splits, and what it sets for all models, as its trials ran."""
    settings = {
        **_as_they_ran(facts["model_defaults"], [info["hyperparameters"] for info in infos]),
        **_as_they_ran(facts["trainer_defaults"], [info["recipe"] for info in infos]),
    }
    settings.pop("epochs", None)  # said of all cohorts at once
    controls = facts.get("control_tasks", [])
    parts = [f"{facts['title']}: {facts['n_slides']} slides, {facts['n_patients']} patients, {facts['splits']} splits"]
    if facts["scaling"] != "none":
        parts[0] += f", features scaled by {facts['scaling']}"
    if settings:
        parts.append("settings of all models: " + ", ".join(f"{key} {value}" for key, value in settings.items()))
    if controls:
        parts.append(f"{', '.join(controls)} left out of means")
    return "; ".join(parts) + "."


def _as_they_ran(defaults: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Values of the cohort's settings in its trials; a user's own setting wins over the cohort's."""
    return {key: distinct(values[key] for values in used if key in values) or str(defaults[key]) for key in defaults}


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
