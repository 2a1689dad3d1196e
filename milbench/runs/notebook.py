"""Notebook: a finished run for people who look at it in Python: predictions, trained models, cohorts.

::

    run = milbench.open_run("runs/digits")
    run.predictions()                     # one DataFrame
    model = run.model("m4", fold=0)       # a torch module in eval mode
    model(run.cohort().load("slide").features)
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from milbench.errors import UsageError, unknown_name
from milbench.store import run as store_run
from milbench.store.run import Run
from milbench.store.slot import ALL_TASKS, Slot

if TYPE_CHECKING:  # torch takes seconds to import, and predictions are read without it
    from milbench.cohorts.cohort import Cohort
    from milbench.heatmap.stored import StoredModel


Value = TypeVar("Value", str, int)


class NotebookRun(Run):
    """A run folder whose models and cohorts can be loaded.

    Parameters
    ----------
    data_root : where the datasets' data lie; None = where they lay when the run was made.
    """

    def __init__(self, path: Path, data_root: Path | None = None) -> None:
        super().__init__(path)
        self.data_root = data_root

    def model(
        self,
        name: str,
        *,
        dataset: str | None = None,
        task: str | None = None,
        fold: int | None = None,
        seed: int | None = None,
    ) -> StoredModel:
        """The trained model in eval mode; whatever the run has one of need not be said.

        It takes features [N, D] as stored on disk and scales them as its training did. Only if that scaling was
        fitted on training slides must the cohort's data be there.

        Raises
        ------
        UsageError : the run has no such model, or several; the message names those that exist.
        StoreError : the trial is not done or damaged, or the run kept no weights.
        """
        from milbench.cohorts.scaling import FITTED_MODES, FeatureScaler
        from milbench.heatmap.stored import StoredModel, find_cohort, finished_trial, trained_model

        slot = chosen_slot(self.slots(), model=name, dataset=dataset, task=task, fold=fold, seed=seed)
        trial = finished_trial(self, slot.trial_id)
        if task is not None and task not in trial.info["tasks"]:
            raise unknown_name(f"task of {name} on {slot.dataset}", task, trial.info["tasks"])
        scaling = str(trial.info["feature_scaling"])
        if scaling in FITTED_MODES:
            return find_cohort(self, slot.dataset, self.data_root).load_trial(trial)
        model = trained_model(self, trial, int(self.datasets[slot.dataset]["in_features"]))
        return StoredModel(trial, model, FeatureScaler(scaling))

    def cohort(self, dataset: str | None = None) -> Cohort:
        """The cohort that the run was trained on; its name need not be said if the run has one.

        Raises
        ------
        UsageError : the run has no such cohort, or several.
        DataError : its data are not there any more.
        """
        from milbench.heatmap.stored import find_cohort

        name = _the_one("dataset", f"run {self.name}", list(self.datasets), dataset)
        return find_cohort(self, name, self.data_root).cohort


def open_run(path: str | PathLike[str], data_root: str | PathLike[str] | None = None) -> NotebookRun:
    """The run stored in `path`, whose datasets lie in `data_root` if they have moved since.

    Raises
    ------
    StoreError : there is no run there, or one of a newer format.
    """
    run = store_run.open_run(Path(path))
    return NotebookRun(run.path, None if data_root is None else Path(data_root))


def chosen_slot(
    slots: Sequence[Slot], *, model: str, dataset: str | None, task: str | None, fold: int | None, seed: int | None
) -> Slot:
    """The one slot that is asked for; what is None must be the same for all that fit the rest.

    Raises
    ------
    UsageError : no slot fits, or several.
    """
    _the_one("model", "the run", [slot.model for slot in slots], model)
    left = [slot for slot in slots if slot.model == model]
    name = _the_one("dataset", model, [slot.dataset for slot in left], dataset)
    left = [slot for slot in left if slot.dataset == name]
    where = f"{model} on {name}"
    groups = [slot.group for slot in left]
    # a model of all tasks has the task that is asked for too
    group = _the_one("task", where, groups, ALL_TASKS if task not in groups and ALL_TASKS in groups else task)
    left = [slot for slot in left if slot.group == group]
    number = _the_one("fold", where, [slot.fold for slot in left], fold)
    left = [slot for slot in left if slot.fold == number]
    number = _the_one("seed", f"{where}, fold {number}", [slot.seed for slot in left], seed)
    return next(slot for slot in left if slot.seed == number)


def _the_one(what: str, where: str, found: Sequence[Value], asked: Value | None) -> Value:
    """`asked` if it was found; if nothing is asked for, the only one there is."""
    known = list(dict.fromkeys(found))
    if asked is None and len(known) > 1:
        raise UsageError(
            f"{where} has several {what}s: {', '.join(map(str, known))}. Say which, for example {what}={known[0]!r}."
        )
    if asked is None and known:
        return known[0]
    if asked is None or asked not in known:
        raise unknown_name(f"{what} of {where}", str(asked), map(str, known))
    return asked
