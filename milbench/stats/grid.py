"""Grid: the predictions of one dataset as arrays, each file read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.errors import StoreError
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 10
"""Positive, and negative, test patients below which a percentile interval is not to be trusted."""


@dataclass(frozen=True, eq=False)
class TaskScores:
    """Scores that all models gave the test slides of one task; M models, F folds, K seeds, S slides, P patients.

    Attributes
    ----------
    patients : [S] index of the slide's patient among the P test patients of the dataset.
    targets : [S] in {0, 1}.
    scores : [M, F, K, S]; NaN where that trial did not score that slide.
    tested : [F, S] whether a slide is on the fold's test side.
    n_patients : P, of the dataset and not of this task alone.
    """

    patients: Ints
    targets: Floats
    scores: Floats
    tested: NDArray[np.bool_]
    n_patients: int

    @cached_property
    def patient_label(self) -> Floats:
        """[P] the largest label of the patient's slides; NaN for a patient without a labelled slide."""
        labels = np.full(self.n_patients, -1.0)
        np.maximum.at(labels, self.patients, self.targets)
        return np.where(labels < 0, np.nan, labels)

    @property
    def n_positive(self) -> int:
        """Positive patients."""
        return int((self.patient_label == 1).sum())

    @property
    def n_negative(self) -> int:
        """Negative patients."""
        return int((self.patient_label == 0).sum())

    @property
    def too_small(self) -> bool:
        """Whether there are too few patients of a class for an interval."""
        return min(self.n_positive, self.n_negative) < FEWEST

    @property
    def test_side_differs(self) -> bool:
        """Whether folds test different slides."""
        return bool((self.tested != self.tested[0]).any())


@dataclass(frozen=True, eq=False)
class Grid:
    """Every prediction of one dataset.

    Attributes
    ----------
    models, titles, tasks : in the order of registration; only those with a finished trial.
    controls : tasks that carry no signal on purpose.
    folds, seeds : ascending.
    rows : model, fold, seed, task (codes into the above), slide, patient (codes), is_test, target, probability;
        ordered by those codes.
    n_patients : test patients, the codes 0 .. P-1.
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

    def task(self, task: str) -> TaskScores:
        """The test scores of one task; slides without a label are left out.

        Raises
        ------
        StoreError : trials disagree on the label of a slide.
        """
        rows = self._test_rows[self.tasks.index(task)]
        slides, position = np.unique(rows["slide"].to_numpy(), return_inverse=True)
        shape = (len(self.models), len(self.folds), len(self.seeds), len(slides))
        patients, targets = np.zeros(len(slides), dtype=np.int64), np.zeros(len(slides))
        patients[position], targets[position] = rows["patient"], rows["target"]
        if (targets[position] != rows["target"].to_numpy()).any():
            raise StoreError(
                f"trials of '{self.dataset}' disagree on labels of task '{task}': they were trained on different "
                "label tables and cannot be compared. Run the older ones again."
            )
        scores = np.full(shape, np.nan)
        scores[rows["model"], rows["fold"], rows["seed"], position] = rows["probability"]
        tested = np.zeros((len(self.folds), len(slides)), dtype=bool)
        tested[rows["fold"], position] = True
        return TaskScores(patients, targets, scores, tested, self.n_patients)

    @cached_property
    def _test_rows(self) -> dict[int, pd.DataFrame]:
        rows = self.rows[self.rows["is_test"] & self.rows["target"].notna()]
        found = dict(iter(rows.groupby("task", sort=False)))
        return {code: found.get(code, rows.iloc[:0]) for code in range(len(self.tasks))}


def grids(runs: Sequence[Run]) -> list[Grid]:
    """One grid a dataset, datasets by name.

    Raises
    ------
    StoreError : two runs hold trials of the same dataset, or trials disagree on a label.
    """
    found: dict[str, Grid] = {}
    for run in runs:
        by_dataset: dict[str, list[StoredTrial]] = {}
        for trial in run.trials():
            by_dataset.setdefault(trial.info["dataset"], []).append(trial)
        twice = sorted(found.keys() & by_dataset.keys())
        if twice:
            raise StoreError(f"{run.path} and another run both hold '{twice[0]}'. Analyse them one at a time.")
        found.update({name: _grid(run, name, trials) for name, trials in by_dataset.items()})
    return [found[name] for name in sorted(found)]


def _grid(run: Run, dataset: str, trials: Sequence[StoredTrial]) -> Grid:
    facts = run.datasets[dataset]
    titles = {trial.info["model"]: trial.info["model_title"] for trial in trials}
    named = [(str(trial.info["model"]), trial) for trial in trials]
    return grid_of(dataset, facts, named, {model: titles[model] for model in _registered(facts["models"], titles)})


def grid_of(
    dataset: str, facts: Mapping[str, Any], named: Sequence[tuple[str, StoredTrial]], titles: Mapping[str, str]
) -> Grid:
    """The grid of trials that may come from several runs of one split.

    Parameters
    ----------
    facts : of the dataset: "tasks" in their order, "control_tasks".
    named : trials, each with the name that stands for its model.
    titles : by those names, in the order of `Grid.models`.
    """
    models, trials = list(titles), [trial for _, trial in named]
    folds, seeds = sorted({t.info["fold"] for t in trials}), sorted({t.info["seed"] for t in trials})
    rows = pd.concat([_rows(t, models.index(name), folds, seeds) for name, t in named], ignore_index=True)
    tasks = _registered(facts["tasks"], rows["task"].unique())
    rows["task"] = pd.Categorical(rows["task"], categories=tasks).codes.astype(np.int64)
    rows["slide"] = pd.factorize(rows["slide"], sort=True)[0]
    # test patients come first, so that their codes are 0 .. P-1
    tested = np.unique(rows.loc[rows["is_test"], "patient"].to_numpy(dtype=str))
    others = np.setdiff1d(rows["patient"].to_numpy(dtype=str), tested)
    names = pd.Index(np.concatenate([tested, others]))
    rows["patient"] = names.get_indexer(rows["patient"].astype(str))
    rows = rows.sort_values(["model", "fold", "seed", "task", "slide"], kind="stable", ignore_index=True)
    return Grid(
        dataset, tuple(models), tuple(titles.values()), tuple(tasks),
        frozenset(facts.get("control_tasks", [])), tuple(folds), tuple(seeds), rows, len(tested),
    )  # fmt: skip


def _registered(order: Sequence[str], found: object) -> list[str]:
    """What was found, in the order of registration; what is not registered comes last, by name."""
    names = {str(name) for name in found}  # type: ignore[attr-defined]
    return [name for name in order if name in names] + sorted(names - set(order))


def _rows(trial: StoredTrial, model: int, folds: list[int], seeds: list[int]) -> pd.DataFrame:
    table = trial.predictions()
    return pd.DataFrame(
        {
            "model": model,
            "fold": folds.index(trial.info["fold"]),
            "seed": seeds.index(trial.info["seed"]),
            "task": table["task"],
            "slide": table["slide_id"].astype(str),
            "patient": table["patient_id"].astype(str),
            "is_test": table["role"].to_numpy() == "test",
            "target": table["target"].astype(float),
            "probability": table["probability"].astype(float),
        }
    )
