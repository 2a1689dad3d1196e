"""What MLflow is told of a trial and of a model: metrics, parameters, times."""

from __future__ import annotations

import hashlib
import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from milbench.metrics import mean_of_defined
from milbench.stats.metric import AUROC, METRICS, PrimaryMetric
from milbench.stats.scores import scores_on_test
from milbench.store.feature_facts import in_words
from milbench.store.trial import StoredTrial

if TYPE_CHECKING:
    from mlflow.entities import Metric

ACCEPTED, NOT_READABLE, DIGEST = re.compile(r"[/\w.\- :]+"), re.compile(r"[^\w.\- ]"), re.compile(r" [0-9a-f]{8}$")
LONGEST_NAME = 200
"""MLflow takes 250 characters, and ours have a prefix and may get a digest."""


def metrics_of(trial: StoredTrial) -> list[Metric]:
    """Epoch metrics, and the test score of every task; the prefix before the slash makes the chart's section."""
    from mlflow.entities import Metric

    now = milliseconds(trial.info["finished_at"])
    history = trial.history()
    rows = [
        Metric(f"{name.split('_')[0]}/{name.split('_')[1]}", value, now, int(epoch))
        for name in ("train_loss", "val_loss", "val_score" if trial.endpoints else "val_auroc")
        for epoch, value in zip(history["epoch"], history[name], strict=True)
    ]
    scores = scores_on_test(trial)
    for metric, tasks in _tasks_by_metric([trial]).items():
        if len(scores) > 1:
            rows += [Metric(f"test/{metric.name} {accepted_name(task)}", scores[task], now, 0) for task in tasks]
        rows.append(Metric(f"test/{metric.name}", _mean(scores[task] for task in tasks), now, 0))
    rows += [
        Metric(f"cost/{name}", float(trial.info[name]), now, 0)
        for name in ("wall_seconds", "peak_bytes", "n_parameters")
    ]
    return [row for row in rows if math.isfinite(row.value)]


def summary_of(trials: Sequence[StoredTrial], controls: set[str]) -> dict[str, float]:
    """Mean test score by task, and over the tasks of a kind that are no controls; cost of all trials together."""
    by_task: dict[str, list[float]] = {}
    for trial in trials:
        for task, value in scores_on_test(trial).items():
            by_task.setdefault(task, []).append(value)
    means = {task: _mean(scores) for task, scores in by_task.items()}
    tasks_by_metric = _tasks_by_metric(trials)
    # first, since the compare view plots the first metric
    values = {
        f"test/{metric.name}": _mean(means[task] for task in tasks if task not in controls)
        for metric, tasks in tasks_by_metric.items()
    }
    values |= {
        f"test/{metric.name} {accepted_name(task)}": means[task]
        for metric, tasks in tasks_by_metric.items()
        for task in tasks
    }
    values["cost/train_seconds"] = sum(trial.info["train_seconds"] for trial in trials)
    values["cost/n_parameters"] = float(trials[0].info["n_parameters"])
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _tasks_by_metric(trials: Sequence[StoredTrial]) -> dict[PrimaryMetric, list[str]]:
    """Tasks by the primary metric of their kind, binary ones first."""
    kinds = {task: fitted.kind for trial in trials for task, fitted in trial.endpoint_of.items()}
    by_metric = {metric: [task for task in kinds if kinds[task] == kind] for kind, metric in METRICS.items()}
    return {metric: tasks for metric, tasks in by_metric.items() if tasks}


def _mean(values: Iterable[float]) -> float:
    return mean_of_defined(np.array(list(values), dtype=float))


def accepted_name(name: str) -> str:
    """`name` if MLflow takes it in the name of a metric; else one like it that no other name gets.

    >>> accepted_name("HER2 IHC"), accepted_name("ER+"), accepted_name("ER-")
    ('HER2 IHC', 'ER_ 3c4d51ac', 'ER-')
    """
    whole = f"{AUROC.name} {name}"
    # a name that looks like one of ours gets a digest too, so that none can be taken for another
    is_taken = ACCEPTED.fullmatch(name) and not DIGEST.search(name) and len(name) <= LONGEST_NAME
    if is_taken and posixpath.normpath(whole) == whole:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(NOT_READABLE, '_', name)[:LONGEST_NAME]} {digest}"


def true_names(tasks: Iterable[str]) -> dict[str, str]:
    """Tags that hold the names of tasks whose metrics MLflow knows by another."""
    accepted = {task: accepted_name(task) for task in sorted(tasks)}
    return {f"milbench.task.{name}": task for task, name in accepted.items() if name != task}


def facts_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """What one filters and groups by, as tags and as parameters: the compare view plots parameters only."""
    return {
        "model": info["model"],
        "dataset": info["dataset"],
        "task": task_of(info),
        "fold": info["fold"],
        "seed": info["seed"],
    }


def task_of(info: Mapping[str, Any]) -> str:
    """The trial's task; "all" where it has several."""
    return "all" if len(info["tasks"]) > 1 else str(info["tasks"][0])


def parameters_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """Facts and settings of a trial, by which runs are compared."""
    recipe = {f"trainer.{key}": value for key, value in info["recipe"].items() if key not in ("name", "model")}
    model = {f"model.{key}": value for key, value in info["hyperparameters"].items()}
    return {**facts_of(info), "protocol": info["protocol"], "split": info["split_sha256"][:8], **model, **recipe}


def features_of(dataset: Mapping[str, Any]) -> dict[str, str]:
    """Parameters on how a cohort's features were made, from what datasets.json holds of it; none in older runs."""
    told = in_words(dataset["features"]) if dataset.get("features") else {}
    return {f"features.{name.replace(' ', '_')}": text for name, text in told.items()}


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """The same with every value as text, which is all that tags and parameters are."""
    return {key: str(value) for key, value in values.items()}


def as_they_ran(trials: Iterable[StoredTrial]) -> list[StoredTrial]:
    """The trials in order of their start: a parent starts with the first that is published."""
    return sorted(trials, key=lambda trial: started(trial.info))


def started(info: Mapping[str, Any]) -> int:
    """Start of a trial, in milliseconds since 1970."""
    return milliseconds(info["finished_at"]) - round(float(info["wall_seconds"]) * 1000)


def milliseconds(text: str) -> int:
    """An ISO time in milliseconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)
