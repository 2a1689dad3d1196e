"""Grid: the predictions of one dataset for tasks of one kind, as arrays, each file read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import BINARY, Endpoint, Kind
from milbench.endpoints.fitted import FittedEndpoint
from milbench.errors import StoreError
from milbench.stats.follow_up import FollowUp, follow_ups
from milbench.store.columns import Columns
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOTHING: Floats = np.empty(0)
FEWEST = 10
"""Test patients of each class, with and without an event, below which a percentile interval is not to be trusted."""

FEWEST_SCORED = 30
"""The same for scores, which have no classes."""


@dataclass(frozen=True, eq=False)
class TaskScores:
    """Scores that all models gave the test slides of one task; M models, F folds, K seeds, S slides, P patients.

    Attributes
    ----------
    patients : [S] index of the slide's patient among the P test patients of the dataset.
    targets : [S] 0 or 1, the place of the class or grade, the value, or the time in days.
    scores : [M, F, K, S] probability, expected grade, value or risk; [M, F, K, S, C] of C classes without an order. NaN
        where that trial did not score that slide.
    tested : [F, S] whether a slide is on the fold's test side.
    n_patients : P, of the dataset and not of this task alone.
    endpoint : what the task asks.
    events : [S] 1 where the event was seen, 0 where the patient was censored; survival alone.
    training_risk : [M, F, K, 2] mean and standard deviation of the risks of a trial's training patients; survival alone.
    """

    patients: Ints
    targets: Floats
    scores: Floats
    tested: NDArray[np.bool_]
    n_patients: int
    endpoint: Endpoint = BINARY
    events: Floats = field(default_factory=lambda: NOTHING)
    training_risk: Floats = field(default_factory=lambda: NOTHING)

    @property
    def kind(self) -> Kind:
        """Kind of the task."""
        return self.endpoint.kind

    @property
    def n_classes(self) -> int:
        """Number C of classes or grades; two for binary tasks, none for scores and survival."""
        return 2 if self.kind == "binary" else len(self.endpoint.classes)

    @cached_property
    def patient_label(self) -> Floats:
        """[P] the largest label of the patient's slides, of other kinds than binary the first; NaN without a label."""
        if self.kind != "binary":
            return self._first(self.targets)
        labels = np.full(self.n_patients, -1.0)
        np.maximum.at(labels, self.patients, self.targets)
        return np.where(labels < 0, np.nan, labels)

    @cached_property
    def patient_event(self) -> Floats:
        """[P] whether the patient's event was seen; NaN without a label."""
        return self._first(self.events)

    def _first(self, values: Floats) -> Floats:
        """[P] the value of each patient's first slide."""
        found = np.full(self.n_patients, np.nan)
        patients, first = np.unique(self.patients, return_index=True)
        found[patients] = values[first]
        return found

    @property
    def stratum(self) -> Floats:
        """[P] the group that a patient is drawn in: its class or grade, and one group for scores and survival."""
        return self.patient_label if self.n_classes else np.where(np.isnan(self.patient_label), np.nan, 0.0)

    @cached_property
    def n_labelled(self) -> int:
        """Patients with a label."""
        return int((~np.isnan(self.patient_label)).sum())

    @cached_property
    def n_by_class(self) -> tuple[int, ...]:
        """Patients of each class, or without and with an event; empty for scores."""
        if self.kind == "survival":
            return tuple(int((self.patient_event == seen).sum()) for seen in (0, 1))
        return tuple(int((self.patient_label == place).sum()) for place in range(self.n_classes))

    @property
    def too_small(self) -> bool:
        """Whether there are too few patients for an interval, of a class, with or without an event, or in all."""
        return min(self.n_by_class) < FEWEST if self.n_by_class else self.n_labelled < FEWEST_SCORED

    @property
    def test_side_differs(self) -> bool:
        """Whether folds test different slides."""
        return bool((self.tested != self.tested[0]).any())


class TrialFacts(NamedTuple):
    """What a trial knows of one of its tasks beside its answers.

    Attributes
    ----------
    fitted : the endpoint as its training patients fitted it.
    training_risk : mean and standard deviation of their risks; NaN except for survival.
    """

    fitted: FittedEndpoint
    training_risk: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Grid:
    """Every prediction of one dataset for its tasks of one kind.

    Attributes
    ----------
    models, titles, tasks : in the order of registration; only those with a finished trial.
    controls : tasks that carry no signal on purpose.
    folds, seeds : ascending.
    rows : model, fold, seed, task (codes into the above), slide, patient (codes), is_test, target, event, answer (its
        place among the trial's answers to the task), prediction; ordered by those codes.
    n_patients : test patients, the codes 0 .. P-1.
    kind : of the tasks.
    facts : by codes of model, fold, seed and task.
    follow_up : by codes of task and fold, of the fold's training patients; survival alone.
    """

    dataset: str
    models: tuple[str, ...]
    titles: tuple[str, ...]
    tasks: tuple[str, ...]
    controls: frozenset[str]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    rows: pd.DataFrame
    n_patients: int
    kind: Kind = "binary"
    facts: Mapping[tuple[int, ...], TrialFacts] = field(default_factory=dict)
    follow_up: Mapping[tuple[int, int], FollowUp] = field(default_factory=dict)

    def endpoint(self, task: str) -> Endpoint:
        """What the task asks.

        Raises
        ------
        StoreError : trials disagree on it.
        """
        code = self.tasks.index(task)
        found = {facts.fitted.endpoint for (*_, of), facts in self.facts.items() if of == code}
        if len(found) > 1:
            raise StoreError(self._disagreement("what is asked", task))
        return found.pop() if found else BINARY

    def task(self, task: str) -> TaskScores:
        """The test scores of one task; slides without a label are left out.

        Raises
        ------
        StoreError : trials disagree on the label of a slide.
        """
        endpoint, code = self.endpoint(task), self.tasks.index(task)
        rows = self._test_rows[code]
        slides, position = np.unique(rows["slide"].to_numpy(), return_inverse=True)
        patients, targets, events = np.zeros(len(slides), dtype=np.int64), np.zeros(len(slides)), np.zeros(len(slides))
        patients[position], targets[position], events[position] = rows["patient"], rows["target"], rows["event"]
        for values, column in ((targets, "target"), (events, "event")):
            if not np.array_equal(values[position], rows[column].to_numpy(), equal_nan=True):
                raise StoreError(self._disagreement("labels", task))
        tested = np.zeros((len(self.folds), len(slides)), dtype=bool)
        tested[rows["fold"], position] = True
        is_survival = self.kind == "survival"
        return TaskScores(
            patients, targets, self._scores(rows, position, len(slides), endpoint), tested, self.n_patients, endpoint,
            events if is_survival else NOTHING, self._training_risk(code) if is_survival else NOTHING,
        )  # fmt: skip

    def _scores(self, rows: pd.DataFrame, position: NDArray[np.intp], n_slides: int, endpoint: Endpoint) -> Floats:
        """[M, F, K, S] of the first answer, or [M, F, K, S, C] of the probabilities of classes without an order."""
        shape = (len(self.models), len(self.folds), len(self.seeds), n_slides)
        if self.kind == "multiclass":
            scores = np.full((*shape, len(endpoint.classes)), np.nan)
            scores[rows["model"], rows["fold"], rows["seed"], position, rows["answer"]] = rows["prediction"]
            return scores
        scores, first = np.full(shape, np.nan), (rows["answer"] == 0).to_numpy()
        rows, position = rows[first], position[first]
        scores[rows["model"], rows["fold"], rows["seed"], position] = rows["prediction"]
        return scores

    def _training_risk(self, task: int) -> Floats:
        found = np.full((len(self.models), len(self.folds), len(self.seeds), 2), np.nan)
        for (*trial, of), facts in self.facts.items():
            if of == task:
                found[tuple(trial)] = facts.training_risk
        return found

    def _disagreement(self, what: str, task: str) -> str:
        return (
            f"trials of '{self.dataset}' disagree on {what} of task '{task}': they were trained on different "
            "label tables and cannot be compared. Run the older ones again."
        )

    @cached_property
    def _test_rows(self) -> dict[int, pd.DataFrame]:
        rows = self.rows[self.rows["is_test"] & self.rows["target"].notna()]
        found = dict(iter(rows.groupby("task", sort=False)))
        return {code: found.get(code, rows.iloc[:0]) for code in range(len(self.tasks))}


def grids(runs: Sequence[Run], kind: Kind = "binary") -> list[Grid]:
    """One grid per dataset with tasks of the kind, datasets by name.

    Raises
    ------
    StoreError : two runs hold trials of the same dataset, or trials disagree on a label.
    """
    found: dict[str, Grid] = {}
    for run in runs:
        by_dataset: dict[str, list[StoredTrial]] = {}
        for trial in run.trials():
            if any(fitted.kind == kind for fitted in trial.endpoint_of.values()):
                by_dataset.setdefault(trial.info["dataset"], []).append(trial)
        twice = sorted(found.keys() & by_dataset.keys())
        if twice:
            raise StoreError(f"{run.path} and another run both hold '{twice[0]}'. Analyse them one at a time.")
        found.update({name: grid_of_trials(run, name, trials, kind) for name, trials in by_dataset.items()})
    return [found[name] for name in sorted(found)]


def grid_of_trials(
    run: Run, dataset: str, trials: Sequence[StoredTrial], kind: Kind = "binary", *, called: str = ""
) -> Grid:
    """The grid of trials of one dataset of a run.

    Parameters
    ----------
    called : name of the cohort that the test side is, where that is another one.
    """
    facts = run.datasets[dataset]
    titles = {trial.info["model"]: trial.info["model_title"] for trial in trials}
    named = [(str(trial.info["model"]), trial) for trial in trials]
    titles = {model: titles[model] for model in _registered(facts["models"], titles)}
    grid = grid_of(called or dataset, facts, named, titles, kind)
    return replace(grid, follow_up=follow_ups(run, dataset, grid.tasks, grid.folds)) if kind == "survival" else grid


def grid_of(
    dataset: str,
    facts: Mapping[str, Any],
    named: Sequence[tuple[str, StoredTrial]],
    titles: Mapping[str, str],
    kind: Kind = "binary",
) -> Grid:
    """The grid of trials that may come from several runs of one split.

    Parameters
    ----------
    facts : of the dataset: "tasks" in their order, "control_tasks".
    named : trials, each with the name that stands for its model.
    titles : by those names, in the order of `Grid.models`.
    kind : of the tasks; others are left out.
    """
    models, trials = list(titles), [trial for _, trial in named]
    folds, seeds = sorted({t.info["fold"] for t in trials}), sorted({t.info["seed"] for t in trials})
    answered = [_columns(trial, kind) for trial in trials]
    tasks = _registered(facts["tasks"], {task for columns in answered for task in columns.task.used()})
    slides = sorted({slide for columns in answered for slide in columns.slide_id.used()})
    # test patients come first, so that their codes are 0 .. P-1
    tested = {name for columns in answered for name in columns.where(columns.role.are("test")).patient_id.used()}
    others = {name for columns in answered for name in columns.patient_id.used()} - tested
    patients = [*sorted(tested), *sorted(others)]
    parts = [
        {
            "model": np.full(len(columns.target), models.index(name)),
            "fold": np.full(len(columns.target), folds.index(trial.info["fold"])),
            "seed": np.full(len(columns.target), seeds.index(trial.info["seed"])),
            "task": columns.task.among(tasks),
            "slide": columns.slide_id.among(slides),
            "patient": columns.patient_id.among(patients),
            "is_test": columns.role.are("test"),
            "target": columns.target,
            "event": columns.event,
            "answer": _places(columns, trial, kind),
            "prediction": columns.prediction,
        }
        for (name, trial), columns in zip(named, answered, strict=True)
    ]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort([rows[name] for name in ("slide", "task", "seed", "fold", "model")])  # stable
    of_trials: dict[tuple[int, ...], TrialFacts] = {
        (models.index(name), folds.index(trial.info["fold"]), seeds.index(trial.info["seed"]), tasks.index(task)): found
        for name, trial in named
        for task, found in _facts(trial, kind).items()
        if task in tasks
    }
    return Grid(
        dataset, tuple(models), tuple(titles.values()), tuple(tasks), frozenset(facts.get("control_tasks", [])),
        tuple(folds), tuple(seeds), pd.DataFrame({name: values[order] for name, values in rows.items()}), len(tested), kind,
        of_trials,
    )  # fmt: skip


def _facts(trial: StoredTrial, kind: Kind) -> dict[str, TrialFacts]:
    """By task of the kind."""
    risks = trial.info.get("training_risk", {})
    return {
        task: TrialFacts(fitted, tuple(risks.get(task, {}).get(name, float("nan")) for name in ("mean", "sd")))
        for task, fitted in trial.endpoint_of.items()
        if fitted.kind == kind
    }


def _registered(order: Sequence[str], found: object) -> list[str]:
    """What was found, in the order of registration; what is not registered comes last, by name."""
    names = {str(name) for name in found}  # type: ignore[attr-defined]
    return [name for name in order if name in names] + sorted(names - set(order))


def _columns(trial: StoredTrial, kind: Kind) -> Columns:
    """What the trial answered to its tasks of the kind."""
    columns = trial.answer_columns()
    of_kind = [task for task, fitted in trial.endpoint_of.items() if fitted.kind == kind]
    if len(of_kind) == len(trial.info["tasks"]):
        return columns
    return columns.where(columns.task.among(of_kind) >= 0)


def _places(columns: Columns, trial: StoredTrial, kind: Kind) -> Ints:
    """[n] place of every row's answer among those to its task."""
    places = np.zeros(len(columns.target), dtype=np.int64)
    for task, fitted in trial.endpoint_of.items():
        if fitted.kind == kind and len(fitted.answers) > 1:
            own = columns.task.are(task)
            places[own] = columns.answer.among(fitted.answers)[own]
    return places
