"""What the labels of all slides tell about a task: contradictions inside of patients, tasks of one class, lone patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import ALL_BINARY, WITH_CLASSES, Endpoint
from milbench.labels.finding import WARNING, Finding, some

IN_TRAINING = "Training takes each slide's own label, and a patient's first one where patients are counted. "
OF_BAGS = "The bag of all slides takes {}. "
"""Said if bags are patients."""


def contradictions(
    slides: pd.DataFrame,
    tasks: Sequence[str],
    endpoints: Mapping[str, Endpoint] = ALL_BINARY,
    *,
    joined: bool = False,
) -> list[Finding]:
    """One finding per task whose label differs between slides of one patient, with the number of patients.

    Parameters
    ----------
    joined : whether a bag is a patient, and has one label.
    """
    distinct = slides.groupby("patient_id", sort=False)[list(tasks)].nunique()
    counts = (distinct > 1).sum()
    return [
        Finding(
            WARNING,
            f"{task}: {count} patient{'s have' if count > 1 else ' has'} contradictory labels on their slides"
            + (_such_as(distinct[task]) if task in endpoints else ""),
            f"{_taken(is_binary=task not in endpoints, joined=joined)}Decide on one label per patient.",
            str(task),
        )
        for task, count in counts.items()
        if count
    ]


def _taken(*, is_binary: bool, joined: bool) -> str:
    """Which of the labels is learned."""
    if joined:
        return OF_BAGS.format("1 if one slide has 1" if is_binary else "the first known label")
    return "" if is_binary else IN_TRAINING


def _such_as(distinct: pd.Series) -> str:
    return f" ({some(list(map(str, distinct.index[distinct > 1])))})"


def one_class_tasks(
    slides: pd.DataFrame, tasks: Sequence[str], endpoints: Mapping[str, Endpoint] = ALL_BINARY
) -> list[Finding]:
    """Findings on tasks that have one class only in the whole cohort, so that no score exists, or a class of one patient."""
    has_two = dict(zip(tasks, slides[list(tasks)].nunique() >= 2, strict=True))
    found = []
    for task in tasks:
        endpoint = endpoints.get(task)
        if endpoint is not None:
            found += _findings_of(slides, task, endpoint)
        elif not has_two[task]:
            what = f"{task}: only one class among the known labels, it will get no AUROC"
            found.append(Finding(WARNING, what, "Leave it out of `tasks:`.", task))
    return found


def _findings_of(slides: pd.DataFrame, task: str, endpoint: Endpoint) -> list[Finding]:
    labels = slides[task]
    if endpoint.kind in WITH_CLASSES:
        lacking = "only one class among the known labels" if labels.nunique() < 2 else ""
    elif endpoint.kind == "survival":
        lacking = "" if (labels > 0).any() else "no event among the known labels"
    else:
        lacking = "" if labels.nunique() > 1 else "all known values are the same"
    if lacking:
        return [Finding(WARNING, f"{task}: {lacking}, so it cannot be learned", "Leave it out of `tasks:`.", task)]
    return _lone_classes(slides, task, endpoint) if endpoint.kind in WITH_CLASSES else []


def _lone_classes(slides: pd.DataFrame, task: str, endpoint: Endpoint) -> list[Finding]:
    """Classes of one patient: such a class is learned or tested, never both."""
    patients = slides.groupby(task)["patient_id"].nunique()
    lone = [endpoint.classes[int(place)] for place in np.sort(patients.index[patients == 1])]
    if not lone:
        return []
    word = "class" if endpoint.kind == "multiclass" else "grade"
    what = f"{task}: one patient only has {', and one '.join(lone)}: such a {word} stands on one side of every fold"
    return [Finding(WARNING, what, "Join it with another in the table, or list it in `unknown:`.", task)]
