"""Kinds: what a report says differently of each kind of tasks, in names of files, in captions and in counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.endpoints.endpoint import BINARY, Endpoint, Kind
from milbench.stats.grid import FEWEST, FEWEST_SCORED
from milbench.store.run import Run

EITHER = "bag"
"""What a bag is called where it is a slide in one cohort and a patient in another."""

MEAN_OF_SLIDES: Mapping[str, str] = {
    SLIDE: ": the risk of a patient is the mean over the slides.",
    PATIENT: ", each of whom is one bag.",
    EITHER: ": where bags are slides, the risk of a patient is the mean over the slides.",
}
"""How a patient comes to a risk, by what a bag is."""

METRIC_NOTES: Mapping[Kind, str] = {
    "binary": "",
    "multiclass": "Macro AUROC: mean over the classes of one class against the rest.",
    "ordinal": "Quadratic kappa is of the expected grade, rounded, a half upwards.",
    "regression": "Pearson r is blind to the scale: see R² in the table of metrics.",
    "survival": f"The c-index is Harrell's, over patients{MEAN_OF_SLIDES[SLIDE]}",
}
"""What the primary metric is, where bags are slides (`metric_note`); of AUROC everybody knows."""

TOO_SMALL_NOTES: Mapping[Kind, str] = {
    "binary": "",
    "multiclass": f"n too small: fewer than {FEWEST} test patients of a class.",
    "ordinal": f"n too small: fewer than {FEWEST} test patients of a grade.",
    "regression": f"n too small: fewer than {FEWEST_SCORED} test patients.",
    "survival": f"n too small: fewer than {FEWEST} test patients with an event, or fewer than {FEWEST} without.",
}
"""When a number has no interval."""

UNDEFINED_IF: Mapping[Kind, str] = {
    "multiclass": "a class has no test slide",
    "ordinal": "all labels and calls are one grade",
    "regression": "labels or predictions are constant",
    "survival": "no two test patients can be compared",
}
"""When the primary metric has no value."""

COUNTED: Mapping[Kind, str] = {
    "binary": "positive/all test patients",
    "multiclass": "test patients",
    "ordinal": "test patients",
    "regression": "test patients",
    "survival": "events/all test patients",
}
"""Title of the row that counts the test patients of every task."""

LONGEST_COUNT = 36
"""Letters of the classes with their numbers, beyond which a table says how many the rarest has."""


def name_of(what: str, kind: Kind, dataset: str = "", datasets: Collection[str] = ()) -> str:
    """Stem of a table or figure: "tasks_brca", and "tasks_brca_survival" if the tasks are not binary.

    Parameters
    ----------
    datasets : of the whole report. If one of them is called "brca_survival", the mark of the kind is set off further.
    """
    stem = f"{what}_{dataset}" if dataset else what
    if kind == "binary":
        return stem
    return f"{stem}__{kind}" if f"{dataset}_{kind}" in datasets else f"{stem}_{kind}"


def endpoint_in(facts: Mapping[str, Any], task: str) -> Endpoint:
    """What a task of a cohort asks, from the facts that the run holds of it."""
    found = facts.get("endpoints", {})
    return Endpoint.from_dict(found[task]) if task in found else BINARY


def counted(kind: Kind, task: Any) -> tuple[str, str]:
    """Test patients of a task, a row of the `tasks` of `milbench.stats.analysis.Analysis`; a second, smaller line if any."""
    if kind == "binary":
        return f"{task.n_positive}/{task.n_positive + task.n_negative}", ""
    if kind == "survival":
        return f"{task.n_events}/{task.n_events + task.n_censored}", ""
    if kind == "regression":
        return f"{task.n_patients}", ""
    is_short = len(task.n_by_class) <= LONGEST_COUNT
    return f"{task.n_patients}", task.n_by_class if is_short else f"rarest: {task.n_rarest}"


def label_columns(labels: pd.DataFrame) -> list[str]:
    """Tasks of a table of labels."""
    return [column for column in labels.columns if column not in ("slide_id", "patient_id")]


def labels_of_kind(labels: pd.DataFrame, facts: Mapping[str, Any], kind: Kind) -> pd.DataFrame:
    """The labels of a cohort's tasks of one kind."""
    others = [task for task in label_columns(labels) if endpoint_in(facts, task).kind != kind]
    return labels.drop(columns=others)


def bag_of(datasets: Iterable[Mapping[str, Any]]) -> str:
    """What captions call a bag of cohorts, given by their facts: "slide", "patient", or "bag" where cohorts differ."""
    found = {PATIENT if "slides_of" in facts else SLIDE for facts in datasets}
    return found.pop() if len(found) == 1 else EITHER if found else SLIDE


def metric_note(kind: Kind, bag: str) -> str:
    """What the primary metric is, for cohorts whose bags are called so."""
    note = METRIC_NOTES[kind]
    return note if bag == SLIDE else note.replace(MEAN_OF_SLIDES[SLIDE], MEAN_OF_SLIDES[bag])


OF_PATIENTS = "If bags are patients, a slide counts with the label of its patient."
"""What tables of labels say of runs whose bags are patients."""


def slide_labels(labels: pd.DataFrame, facts: Mapping[str, Any]) -> pd.DataFrame:
    """The labels with one row per slide; if the cohort's bags are patients, a slide has the labels of its patient."""
    joined: Mapping[str, Sequence[str]] = facts.get("slides_of", {})
    if not joined:
        return labels
    slides = [(slide, patient) for patient, slides in joined.items() for slide in slides]
    table = pd.DataFrame(slides, columns=["slide_id", "patient_id"])
    return table.merge(labels.drop(columns="slide_id"), on="patient_id")


def joins_slides(runs: Iterable[Run], datasets: Iterable[str]) -> bool:
    """Whether the bags of a cohort are patients."""
    names = set(datasets)
    return any("slides_of" in facts for run in runs for name, facts in run.datasets.items() if name in names)
