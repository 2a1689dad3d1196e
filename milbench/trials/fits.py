"""Fits: what the training patients of each fold decide about the tasks of one cohort, made once for all models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from milbench.cohorts.cohort import Cohort
from milbench.endpoints.fit import Fit, fit, patient_labels
from milbench.endpoints.fitted import FittedEndpoint, LossOptions
from milbench.errors import DataError
from milbench.labels.finding import NOTE, Finding, some
from milbench.models import MILModel
from milbench.splits import Split


class Fits:
    """Fitted endpoints of one cohort under one split."""

    def __init__(self, cohort: Cohort, split: Split) -> None:
        self.cohort, self.split = cohort, split
        self._made: dict[tuple[int, str, LossOptions], Fit] = {}

    def of(self, fold: int, tasks: Sequence[str], options: LossOptions) -> tuple[FittedEndpoint, ...]:
        """What the fold's training patients decide about each task; empty if all are binary.

        Raises
        ------
        DataError : a training side cannot teach a task.
        """
        if all(self.cohort.endpoint(task).kind == "binary" for task in tasks):
            return ()
        return tuple(self._of_task(fold, task, options).fitted for task in tasks)

    def findings(self) -> list[Finding]:
        """What the user should know of the fits made so far."""
        return [
            Finding(NOTE, f"fold {fold}: {note}", task=task)
            for (fold, task, _), made in self._made.items()
            for note in made.notes
        ]

    def _of_task(self, fold: int, task: str, options: LossOptions) -> Fit:
        key = (fold, task, options)
        if key not in self._made:
            self._made[key] = self._fit(fold, task, options)
        return self._made[key]

    def _fit(self, fold: int, task: str, options: LossOptions) -> Fit:
        training, endpoint = self.split.slides(self.cohort.slides, fold, "train"), self.cohort.endpoint(task)
        labels = patient_labels(training, task, endpoint).to_numpy(dtype=np.float64)
        try:
            return fit(endpoint, labels, options, task=task)
        except DataError as error:
            raise DataError(f"{self.cohort.name}, fold {fold}, {error}") from error


def learnable_tasks(model: type[MILModel], cohort: Cohort) -> tuple[str, ...]:
    """The cohort's tasks whose kind the model can learn, in order."""
    return tuple(task for task in cohort.tasks if cohort.endpoint(task).kind in model.info.kinds)


def left_out(models: Mapping[str, type[MILModel]], cohort: Cohort) -> Iterable[Finding]:
    """One note per model that cannot learn all tasks of the cohort."""
    for name, model in models.items():
        lacking = [task for task in cohort.tasks if task not in learnable_tasks(model, cohort)]
        if lacking:
            kinds = dict.fromkeys(cohort.endpoint(task).kind for task in lacking)
            yield Finding(
                NOTE,
                f"{name} is left out of {some(lacking, 5)}: it does not learn {' or '.join(kinds)} tasks",
                "If it can, declare `kinds=` in @register_model (docs/models.md).",
            )
