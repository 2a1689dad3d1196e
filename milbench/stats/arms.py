"""Arms: models of one run or of several on one cohort, compared under the same draws of patients and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from milbench.errors import StoreError
from milbench.stats.across import cohort_draws, weighted_mean
from milbench.stats.crossed import crossed_draws, generator
from milbench.stats.grid import Grid, TaskScores, grid_of
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

Floats = NDArray[np.float64]

NO_DRAWS: Floats = np.empty(0)


class Arm(NamedTuple):
    """One model of one run; `name` tells it from the same model of another run."""

    name: str
    run: Run
    model: str


class Estimate(NamedTuple):
    """A number with its draws.

    Attributes
    ----------
    value : the point estimate.
    draws : [B] the same number in every draw; empty where there is no interval.
    """

    value: float
    draws: Floats = NO_DRAWS

    def minus(self, other: Estimate) -> Estimate:
        """The difference, draw by draw."""
        both = len(self.draws) and len(other.draws)
        return Estimate(self.value - other.value, self.draws - other.draws if both else NO_DRAWS)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of cohorts as they are, draw by draw; their draws are independent of each other."""
    value = float(np.mean([one.value for one in estimates]))
    whole = all(len(one.draws) for one in estimates)
    return Estimate(value, np.mean([one.draws for one in estimates], axis=0) if whole else NO_DRAWS)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The arms on one cohort. Every estimate has the same draws, so that differences are paired.

    >>> comparison.mean("m4", tasks).minus(comparison.mean("amil", tasks))    # doctest: +SKIP
    Estimate(value=0.03, draws=array([0.028, ...]))

    Attributes
    ----------
    arms : with distinct names; those without a finished trial are left out of `names`.
    draws, seed : of the bootstrap; the same seed gives the intervals of `milbench.stats.analysis.analyse`.
    """

    dataset: str
    arms: Sequence[Arm]
    draws: int
    seed: int = 0
    _drawn: dict[tuple[str, ...], tuple[Floats, Floats]] = field(default_factory=dict, repr=False)

    @cached_property
    def _trials(self) -> list[tuple[str, StoredTrial]]:
        return [
            (arm.name, trial)
            for arm in self.arms
            for trial in arm.run.trials()
            if (trial.info["dataset"], trial.info["model"]) == (self.dataset, arm.model)
        ]

    @cached_property
    def titles(self) -> dict[str, str]:
        """How the model of each arm is called, of the arms with a finished trial."""
        return {name: str(trial.info["model_title"]) for name, trial in self._trials}

    @cached_property
    def grid(self) -> Grid:
        """The scores of all arms.

        Raises
        ------
        StoreError : no arm has a finished trial, or they were trained on different splits.
        """
        if not self._trials:
            raise StoreError(f"{self.dataset} is not in the stores")
        if len({trial.info["split_sha256"] for _, trial in self._trials}) > 1:
            raise StoreError(f"the runs to compare on {self.dataset} have different splits")
        facts = [arm.run.datasets[self.dataset] for arm in self.arms if arm.name in self.titles]
        both = {
            key: list(dict.fromkeys(name for fact in facts for name in fact.get(key, [])))
            for key in ("tasks", "control_tasks")
        }
        return grid_of(self.dataset, both, self._trials, self.titles)

    @property
    def signal_tasks(self) -> tuple[str, ...]:
        """The tasks that count in means, of all arms."""
        return tuple(task for task in self.grid.tasks if task not in self.grid.controls)

    def tasks(self, arm: str) -> tuple[str, ...]:
        """The tasks that count and that the arm learns, in the cohort's order; none where it is not in the stores."""
        if arm not in self.titles:
            return ()
        learned = {task for name, trial in self._trials if name == arm for task in trial.info["tasks"]}
        return tuple(task for task in self.signal_tasks if task in learned)

    def mean(self, arm: str, tasks: Sequence[str]) -> Estimate:
        """AUROC, mean over the tasks inside a fold, then over folds and seeds.

        Raises
        ------
        StoreError : the arm is not in the stores, or lacks a fold of a task.
        """
        column = self._column(arm, tasks)
        point, drawn = self._mean_over(tuple(tasks))
        return Estimate(float(point[column]), drawn[:, column])

    def task(self, arm: str, task: str) -> Estimate:
        """AUROC on one task, mean over folds and seeds; without draws where too few patients are of one class.

        Raises
        ------
        StoreError : as `mean`.
        """
        column = self._column(arm, [task])
        point, drawn = self._one(task)
        return Estimate(float(point[column]), drawn[:, column])

    def _column(self, arm: str, tasks: Sequence[str]) -> int:
        """The arm's place in the grid, once it is sure that nothing of it is missing."""
        if arm not in self.titles:
            raise StoreError(f"{arm} was not trained on {self.dataset}")
        column = self.grid.models.index(arm)
        for task in tasks:
            if task not in self.tasks(arm):
                raise StoreError(f"{arm} was not trained on {task} of {self.dataset}")
            if _lacks_a_score(self._scores[task], column):
                raise StoreError(f"{arm} has not finished {task} of {self.dataset}")
        return column

    @cached_property
    def _scores(self) -> dict[str, TaskScores]:
        return {task: self.grid.task(task) for task in self.grid.tasks}

    def _mean_over(self, tasks: tuple[str, ...]) -> tuple[Floats, Floats]:
        """Points [M] and draws [B, M] of the mean over tasks."""
        if not tasks:
            raise StoreError(f"{self.dataset} has no such task")
        if ("mean", *tasks) not in self._drawn:
            scores = [self._scores[task] for task in tasks]
            drawn = np.empty((0, len(self.grid.models)))
            if not all(score.too_small for score in scores):
                drawn = cohort_draws(scores, generator(self.seed, self.dataset), self.draws)
            self._drawn["mean", *tasks] = _as_they_are(scores), drawn
        return self._drawn["mean", *tasks]

    def _one(self, task: str) -> tuple[Floats, Floats]:
        if ("one", task) not in self._drawn:
            score = self._scores[task]
            drawn = np.empty((0, len(self.grid.models)))
            if not score.too_small:
                drawn = crossed_draws(score, generator(self.seed, self.dataset, task), self.draws)
            self._drawn["one", task] = _as_they_are([score]), drawn
        return self._drawn["one", task]


def _as_they_are(scores: Sequence[TaskScores]) -> Floats:
    """The mean [M] with every patient and fold once."""
    patients = np.ones((1, scores[0].n_patients), dtype=np.int64)
    folds = np.ones((1, len(scores[0].tested)), dtype=np.int64)
    return np.asarray(weighted_mean(scores, patients, folds)[0])


def _lacks_a_score(task: TaskScores, column: int) -> bool:
    """Whether the arm left a tested slide of some fold and seed without a score."""
    missing = np.isnan(task.scores[column])  # [F, K, S]
    return bool((missing & task.tested[:, None, :]).any())
