"""Captions: what must be said where a number stands, and the settings that a cohort's trials ran with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.cohorts.tuned import TunedSettings
from milbench.stats.metric import AUROC, PrimaryMetric
from milbench.stats.scores import SPREAD, SPREAD_OF_SIDES


def short_commit(commit: str) -> str:
    """Twelve digits of a commit and whether the checkout was changed; the page holds all forty."""
    digits, dash, dirty = commit.partition("-")
    return digits[:12] + dash + dirty


def spread_means(datasets: Mapping[str, Any]) -> str:
    """What ± stands for."""
    differ = any(facts.get("test_side_differs", False) for facts in datasets.values())
    return f"± is the {SPREAD_OF_SIDES if differ else SPREAD}."


def tuned_before(datasets: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """A sentence for every cohort whose settings an earlier search chose, beginning with a blank; "" without any.

    `titles` are those of the models shown. Those that were not searched are named.
    """
    return "".join(
        f" {facts['title']}: settings {tuned_in_words(facts['tuned'])}, by an earlier search ({facts['tuned']['made']})"
        f"{_not_searched(facts['tuned'], titles)}."
        for facts in datasets.values()
        if facts.get("tuned")
    )


def _not_searched(tuned: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    left = [title for name, title in titles.items() if name not in tuned.get("models", titles)]
    return (
        f", without {', '.join(left)}, which have the settings for all: do not rank these by the others" if left else ""
    )


def tuned_in_words(tuned: Mapping[str, Any]) -> str:
    """ "tuned, 24 configurations per model", of what a run holds of an earlier search."""
    return str(TunedSettings(int(tuned["configurations"]), {}))


def settings_as_they_ran(facts: Mapping[str, Any], infos: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What one cohort sets for all models, with the values that its trials ran with."""
    settings = {
        **_as_they_ran(facts["model_defaults"], [info["hyperparameters"] for info in infos]),
        **_as_they_ran(facts["trainer_defaults"], [info["recipe"] for info in infos]),
    }
    settings.pop("epochs", None)  # a row of its own
    return settings


def _as_they_ran(defaults: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Values of the cohort's settings in its trials; a user's own setting wins over the cohort's."""
    return {key: distinct(values[key] for values in used if key in values) or str(defaults[key]) for key in defaults}


def undefined(scores: pd.DataFrame, datasets: Mapping[str, Any], metric: PrimaryMetric = AUROC) -> list[str]:
    """A sentence for every cohort with (task, fold) pairs that have no score."""
    pairs = scores.loc[scores["score"].isna(), ["dataset", "task", "fold"]].drop_duplicates()
    return [
        f"{datasets[name]['title']}: {len(rows)} (task, fold) pairs have no {metric.title} and are left out of means ("
        + "; ".join(f"{task} in folds {distinct(group['fold'])}" for task, group in rows.groupby("task", sort=False))
        + ")."
        for name, rows in pairs.groupby("dataset", sort=False)
    ]


def distinct(values: Iterable[Any]) -> str:
    """The distinct values, sorted, as text."""
    by_text = {str(value): value for value in values}
    try:
        return ", ".join(sorted(by_text, key=lambda text: by_text[text]))
    except TypeError:  # values of several kinds have no order of their own
        return ", ".join(sorted(by_text))
