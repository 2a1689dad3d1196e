"""Fits: what the training patients of each fold decide about the tasks of one cohort, made once for all models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.coordinates import why_without_coords
from milbench.endpoints.fit import Fit, fit, patient_labels
from milbench.endpoints.fitted import FittedEndpoint, LossOptions
from milbench.errors import DataError
from milbench.labels.finding import NOTE, WARNING, Finding, some
from milbench.models import MILModel
from milbench.splits import Split


class Fits:
    """Fitted endpoints of one cohort under one split."""

    def __init__(self, cohort: Cohort, split: Split) -> None:
        self.cohort, self.split = cohort, split
        self._made: dict[tuple[int, str, LossOptions], Fit] = {}
        self._left_out: dict[str, list[Finding]] = {}
        self._without_coords: str | None = None

    def tasks_of(self, name: str, model: type[MILModel], options: LossOptions) -> tuple[str, ...]:
        """The cohort's tasks that the model of this name can learn, in order."""
        if model.info.needs_coords and (why := self._why_without_coords()):
            self._left_out[name] = [_no_coords(name, why)]
            return ()
        tasks = self.cohort.tasks
        of_kind = [task for task in tasks if self.cohort.endpoint(task).kind in model.info.kinds]
        learned = [task for task in of_kind if not self._needs_cox(task, options) or model.info.learns_cox]
        lacking = {
            _other_kind: [task for task in tasks if task not in of_kind],
            _no_cox: [task for task in of_kind if task not in learned],
        }
        self._left_out[name] = [finding(name, out, self.cohort) for finding, out in lacking.items() if out]
        return tuple(learned)

    def of(self, fold: int, tasks: Sequence[str], options: LossOptions) -> tuple[FittedEndpoint, ...]:
        """What the fold's training patients decide about each task; empty if all are binary.

        Raises
        ------
        DataError : a training side cannot teach a task.
        """
        if all(self.cohort.endpoint(task).kind == "binary" for task in tasks):
            return ()
        return tuple(self._of_task(fold, task, options).fitted for task in tasks)

    def left_out(self) -> list[Finding]:
        """Models that do not learn some of the tasks. Results without them must not surprise anybody."""
        return [finding for found in self._left_out.values() for finding in found]

    def notes(self) -> list[Finding]:
        """What the user should know of the fits made so far."""
        return [
            Finding(NOTE, f"fold {fold}: {note}", task=task)
            for (fold, task, _), made in self._made.items()
            for note in made.notes
        ]

    def _why_without_coords(self) -> str:
        if self._without_coords is None:
            self._without_coords = why_without_coords(self.cohort)
        return self._without_coords

    def _needs_cox(self, task: str, options: LossOptions) -> bool:
        return options.survival == "cox" and self.cohort.endpoint(task).kind == "survival"

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


def _other_kind(name: str, tasks: Sequence[str], cohort: Cohort) -> Finding:
    kinds = dict.fromkeys(cohort.endpoint(task).kind for task in tasks)
    return Finding(
        WARNING,
        f"{name} is left out of {some(tasks, 5)}: it does not learn {' or '.join(kinds)} tasks",
        "If it can, declare `kinds=` in @register_model (docs/models.md).",
    )


def _no_coords(name: str, why: str) -> Finding:
    return Finding(
        WARNING,
        f"{name} is left out: it needs the patches' coordinates, and {why}",
        "Extract with coordinates (CLAM's .h5, TRIDENT, STAMP; docs/features.md), or leave the model out.",
    )


def _no_cox(name: str, tasks: Sequence[str], _: Cohort) -> Finding:
    return Finding(
        WARNING,
        f"{name} is left out of {some(tasks, 5)}: its loss reads other numbers than its last logits, so a Cox loss cannot "
        "train it",
        "Use trainer.survival_loss: nll, which every model of survival tasks can learn.",
    )
