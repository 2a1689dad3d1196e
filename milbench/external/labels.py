"""Labels: those of an external cohort as the training's tasks number them, and how they differ from the training's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from milbench.cohorts.bag_names import PATIENT
from milbench.cohorts.cohort import Cohort
from milbench.cohorts.cohort_file import AS_GIVEN
from milbench.endpoints.endpoint import WITH_CLASSES, Endpoint, event_of, time_of
from milbench.endpoints.fit import patient_labels
from milbench.errors import DataError
from milbench.intake.patients import patient_findings
from milbench.labels import contradictions
from milbench.labels.finding import ERROR, WARNING, condensed, of_tasks
from milbench.labels.values import guessed_classes

IDS = ["slide_id", "patient_id"]

MOST_TIMES_APART = 10.0
"""Median times of two cohorts of one disease are never so far apart; days and months are 30 times."""


def evaluated_tasks(tasks: Sequence[str], cohort: Cohort) -> tuple[str, ...]:
    """Those of the run's tasks that the cohort has a column of.

    Raises
    ------
    DataError : it has none.
    """
    found = tuple(task for task in tasks if task in cohort.every_task)
    if not found:
        raise DataError(
            f"cohort '{cohort.name}' has none of the run's tasks {', '.join(tasks)}. Its own: "
            f"{', '.join(cohort.every_task)}. Call its columns as the training's, or name them in `tasks:`. "
            "If its slides have no labels, use `milbench predict`."
        )
    return found


def known_tasks(cohort: str, slides: pd.DataFrame, evaluated: Sequence[str]) -> tuple[str, ...]:
    """Those tasks of which a slide has a label.

    Raises
    ------
    DataError : there is none.
    """
    found = tuple(task for task in evaluated if slides[task].notna().any())
    if not found:
        raise DataError(
            f"cohort '{cohort}' knows no label of {', '.join(evaluated)}. If its slides have no labels, use `milbench predict`."
        )
    return found


def aligned_labels(cohort: Cohort, tasks: Mapping[str, Endpoint], evaluated: Sequence[str]) -> pd.DataFrame:
    """The cohort's slides with one column per task of the run; a class has the place that it has in the training.

    Raises
    ------
    DataError : a task is of another kind, grades are in another order, or a patient has a class that no training knows.
    """
    slides = cohort.slides[IDS].copy()
    for task, endpoint in tasks.items():
        if task not in evaluated:
            slides[task] = np.nan
            continue
        theirs = cohort.endpoint(task)
        _refuse_another_kind(cohort.name, task, endpoint, theirs)
        labels = cohort.slides[task].astype(float)
        slides[task] = _in_own_classes(cohort.name, task, labels, endpoint, theirs)
    return slides


def _refuse_another_kind(cohort: str, task: str, own: Endpoint, theirs: Endpoint) -> None:
    if own.kind != theirs.kind:
        raise DataError(
            f"task '{task}' is {own.kind} in the run and {theirs.kind} in cohort '{cohort}'. Declare it in the cohort's "
            f"`tasks:` as in that of the training: {{{task}: {{kind: {own.kind}, ...}}}}."
        )


def _in_own_classes(cohort: str, task: str, labels: pd.Series, own: Endpoint, theirs: Endpoint) -> pd.Series:
    """Labels with the places of the training's classes."""
    if own.kind not in WITH_CLASSES or own.classes == theirs.classes:
        return labels
    present = [name for place, name in enumerate(theirs.classes) if (labels == place).any()]
    unseen = [name for name in present if name not in own.classes]
    if unseen:
        n_slides = int(labels.isin([theirs.classes.index(name) for name in unseen]).sum())
        raise DataError(
            f"cohort '{cohort}', task '{task}': {n_slides} slides have the class {', '.join(unseen)}, which no training "
            f"has seen (its classes: {', '.join(own.classes)}). Spell classes as in the training, or name these cells in "
            "`unknown:` of the cohort.yaml."
        )
    shared = [name for name in theirs.classes if name in own.classes]
    if own.kind == "ordinal" and shared != [name for name in own.classes if name in theirs.classes]:
        raise DataError(
            f"cohort '{cohort}', task '{task}': grades are in the order {', '.join(shared)}, in the training "
            f"{', '.join(own.classes)}. Write `classes:` in the order of the training."
        )
    places = {place: own.classes.index(name) for place, name in enumerate(theirs.classes) if name in own.classes}
    return labels.map(places).astype(float)


def refuse_another_unit(cohort: str, task: str, own: pd.Series, theirs: pd.Series) -> None:
    """DataError if times of patients are in another unit than the training's."""
    before, now = (float(np.median(time_of(labels.dropna().to_numpy(float)))) for labels in (own, theirs))
    if not (before > 0 and now > 0):
        return
    if now > MOST_TIMES_APART * before or before > MOST_TIMES_APART * now:
        raise DataError(
            f"cohort '{cohort}', task '{task}': the median time is {now:,.1f} days, {before:,.1f} in the training. One of "
            "the two is in another unit: write `unit: days`, `months` or `years` at the task in its cohort.yaml."
        )


def absent_classes(labels: pd.Series, endpoint: Endpoint) -> list[str]:
    """Classes of the training that no patient has."""
    return [name for place, name in enumerate(endpoint.classes) if not (labels == place).any()]


def why_no_score(labels: pd.Series, endpoint: Endpoint, bag: str) -> str:
    """Why known labels of a task without classes give no score; empty if they do."""
    if endpoint.kind == "survival":
        return "" if event_of(labels.to_numpy(float)).any() else f"no {bag} had an event, so there is no c-index"
    if labels.nunique() > 1:
        return ""
    if endpoint.kind == "binary":
        return f"every {bag} with a label is {'positive' if labels.all() else 'negative'}, so there is no AUROC"
    return f"every {bag} with a label has the same value, so there is no Pearson r"


def label_warnings(
    cohort: Cohort, patients: pd.Series, evaluated: Sequence[str], training_notes: Sequence[str]
) -> list[str]:
    """What makes the labels doubtful, a line each: guessed classes, slides that contradict each other, ids of less than a patient.

    A guess may differ from that of the training: of CIN and GS, GS is 1, but of GS and MSI it is 0. So if a class was guessed
    here or there, both are told.

    Parameters
    ----------
    patients : those that are evaluated.
    training_notes : what the run noted of its own cohort.
    """
    every = cohort.by_slide.slides
    slides = every[every["patient_id"].isin(patients)]
    kinds = {task: cohort.endpoints[task] for task in evaluated if task in cohort.endpoints}
    found = condensed([
        *of_tasks(cohort.findings, [task for task in evaluated if cohort.endpoint(task).kind not in WITH_CLASSES]),
        *contradictions(slides, evaluated, kinds, joined=cohort.bag == PATIENT),
        *patient_findings(slides, None, as_given=cohort.patients == AS_GIVEN),
    ])  # fmt: skip
    here = [finding.text for finding in found if finding.severity in (ERROR, WARNING)]
    before = [f"in the training: {told}" for note in training_notes if (told := guessed_classes(note, evaluated))]
    return [*here, *before]


def label_shift(
    tasks: Mapping[str, Endpoint], evaluated: Sequence[str], own: pd.DataFrame | None, theirs: pd.DataFrame
) -> pd.DataFrame:
    """One row per task: patients with a label, and what their labels are, in the run's cohort and in the external one.

    Parameters
    ----------
    own : labels of the run's cohort; None = an older run, which stored none.
    """
    rows = []
    for task in evaluated:
        row: dict[str, object] = {"task": task, "kind": tasks[task].kind}
        for side, slides in (("run", own), ("external", theirs)):
            known = pd.Series(dtype=float) if slides is None else patient_labels(slides, task, tasks[task]).dropna()
            row |= {f"{side}_patients": len(known), f"{side}_labels": described(known, tasks[task])}
        rows.append(row)
    return pd.DataFrame(rows)


def described(labels: pd.Series, endpoint: Endpoint) -> str:
    """What labels of patients are, in a few words of their kind."""
    values = labels.to_numpy(dtype=float)
    if not len(values):
        return "unknown"
    if endpoint.kind == "binary":
        return f"{np.mean(values):.1%} positive"
    if endpoint.classes:
        shares = [f"{name} {np.mean(values == place):.0%}" for place, name in enumerate(endpoint.classes)]
        return ", ".join(shares)
    if endpoint.kind == "survival":
        return f"{np.mean(event_of(values)):.0%} with event, median time {np.median(time_of(values)):,.0f} days"
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"median {middle:.4g} ({low:.4g} to {high:.4g})"
