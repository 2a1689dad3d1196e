"""Notebook: what `import milbench` offers of finished runs, cohorts and models in Python (docs/python.md).

::

    run = milbench.open_run("runs/digits")
    run.predictions()                     # one DataFrame
    model = run.model("m4", fold=0)       # a torch module in eval mode
    model(run.cohort().load("slide").features)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from milbench.errors import UsageError, unknown_name
from milbench.store import run as store_run
from milbench.store.run import Run
from milbench.store.slot import ALL_TASKS, Slot

if TYPE_CHECKING:  # torch takes seconds to import, and predictions are read without it
    from milbench.bag import Bag
    from milbench.cohorts.cohort import Cohort
    from milbench.endpoints.endpoint import Kind
    from milbench.heatmap.stored import StoredModel
    from milbench.heatmap.trained import TrainedModel
    from milbench.models import AttentionMaps, MILModel
    from milbench.runs.ensemble import Ensemble
    from milbench.stats.analysis import Analysis
    from milbench.store.trial import StoredTrial


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
        from milbench.heatmap.stored import finished_trial

        slot = chosen_slot(self.slots(), model=name, dataset=dataset, task=task, fold=fold, seed=seed)
        trial = finished_trial(self, slot.trial_id)
        _refuse_a_task_not_learned(trial, task)
        return self._loaded([trial])[0]

    def ensemble(self, name: str, *, dataset: str | None = None, task: str | None = None) -> Ensemble:
        """All trainings of a model on one task, over folds and seeds; they answer a bag together.

        Raises as `model`. All of the model's trials must be finished: fewer would be another ensemble.
        """
        from milbench.heatmap.stored import finished_trial
        from milbench.runs.ensemble import Ensemble

        slots = chosen_slots(self.slots(), model=name, dataset=dataset, task=task)
        trials = [finished_trial(self, slot.trial_id) for slot in slots]
        _refuse_a_task_not_learned(trials[0], task)
        asked = the_one("task", f"{name} on {slots[0].dataset}", trials[0].info["tasks"], task)
        return Ensemble(self._loaded(trials), asked)

    def _loaded(self, trials: Sequence[StoredTrial]) -> list[StoredModel]:
        """Models of trials of one cohort, which is read only if the scaling of one was fitted, and then once."""
        from milbench.cohorts.scaling import FITTED_MODES, FeatureScaler
        from milbench.heatmap.stored import StoredModel, find_cohort, trained_model

        dataset, modes = str(trials[0].info["dataset"]), [str(trial.info["feature_scaling"]) for trial in trials]
        if set(modes) & set(FITTED_MODES):
            cohort = find_cohort(self, dataset, self.data_root)
            return [cohort.load_trial(trial) for trial in trials]
        width = int(self.datasets[dataset]["in_features"])
        return [
            StoredModel(trial, trained_model(self, trial, width), FeatureScaler(mode))
            for trial, mode in zip(trials, modes, strict=True)
        ]

    def cohort(self, dataset: str | None = None) -> Cohort:
        """The cohort that the run was trained on; its name need not be said if the run has one.

        Raises
        ------
        UsageError : the run has no such cohort, or several.
        DataError : its data are not there any more.
        """
        from milbench.heatmap.stored import find_cohort

        name = the_one("dataset", f"run {self.name}", list(self.datasets), dataset)
        return find_cohort(self, name, self.data_root).cohort


def open_run(path: str | PathLike[str], data_root: str | PathLike[str] | None = None) -> NotebookRun:
    """The run stored in `path`, whose datasets lie in `data_root` if they have moved since.

    Raises
    ------
    StoreError : there is no run there, or one of a newer format.
    """
    run = store_run.open_run(Path(path))
    return NotebookRun(run.path, None if data_root is None else Path(data_root))


def read_cohort(
    path: str | PathLike[str],
    *,
    data_root: str | PathLike[str] | None = None,
    allow_missing: bool = False,
    plugins: Sequence[str | PathLike[str]] = (),
) -> Cohort:
    """The cohort of that name in the catalogue, or in a folder, or described by a YAML file.

    Parameters
    ----------
    path : "digits", "my-cohort/" or "my-cohort.yaml"; a name of the catalogue wins, so write "./digits" for a folder.
    data_root : where the catalogue's data lie; None = as the environment variable MILBENCH_DATA says.
    allow_missing : skip slides without features, and features without label, instead of refusing them.
    plugins : Python files that register datasets.

    Raises
    ------
    DataError : labels or features are missing or unusable.
    UsageError : there is neither such a dataset nor such a path.
    """
    from milbench.datasets import all_datasets
    from milbench.datasets.source import CohortSource

    root = data_root or os.environ.get("MILBENCH_DATA")
    files = tuple(Path(plugin).absolute() for plugin in plugins)
    known, name = all_datasets(files), os.fspath(path)
    if name not in known and not Path(path).exists():
        raise unknown_name("dataset, folder or YAML file", name, known)
    place = {"name": name} if name in known else {"path": Path(path).absolute()}
    where = Path(root) if root else None
    return CohortSource(**place, data_root=where, allow_missing=allow_missing, plugins=files).load()


def statistics(
    runs: Run | Sequence[Run], *, reference: str = "amil", draws: int = 10_000, complete_cases: bool = False
) -> dict[Kind, Analysis]:
    """The tables that the report prints, by kind of task: scores, intervals, comparisons (`milbench.stats.analysis`).

    Raises
    ------
    StoreError : no trial is finished, or models lack cells that others have and `complete_cases` was not asked for.
    UsageError : too few draws, or no model is called `reference`.
    """
    from milbench.report.contents import refuse_an_unknown_reference
    from milbench.stats.analysis import analyse
    from milbench.stats.draws import refuse_few_draws
    from milbench.stats.scores import kinds_of

    refuse_few_draws(draws, "draws")
    found = [run.snapshot() for run in ([runs] if isinstance(runs, Run) else runs)]
    refuse_an_unknown_reference(found, reference)
    kinds = kinds_of(found) or ("binary",)  # `analyse` says that nothing is finished
    ask = partial(analyse, found, reference=reference, draws=draws, complete_cases=complete_cases)
    return {kind: ask(kind=kind) for kind in kinds}


def attention(model: TrainedModel | MILModel, bag: Bag) -> AttentionMaps:
    """Maps of where `model` looks in `bag`; a model that knows no scaling gets the features as they are.

    Raises
    ------
    MilbenchError : the model has no map, or `bag` is none.
    """
    import torch

    from milbench.bag import Bag
    from milbench.heatmap.trained import TrainedModel
    from milbench.layout import patches_of

    if not isinstance(bag, Bag):
        raise UsageError(f"attention takes a bag, such as cohort.load(slide) gives; got {type(bag).__name__}.")
    if isinstance(model, TrainedModel):
        return model.maps(*model.patches(bag).given)
    was_training = model.training
    try:
        with torch.no_grad():
            return model.eval().maps(patches_of(bag, model.wanted_neighbours))
    finally:
        model.train(was_training)


def _refuse_a_task_not_learned(trial: StoredTrial, task: str | None) -> None:
    if task is not None and task not in trial.info["tasks"]:
        raise unknown_name(f"task of {trial.info['model']} on {trial.info['dataset']}", task, trial.info["tasks"])


def chosen_slot(
    slots: Sequence[Slot], *, model: str, dataset: str | None, task: str | None, fold: int | None, seed: int | None
) -> Slot:
    """The one slot that is asked for; what is None must be the same for all that fit the rest.

    Raises
    ------
    UsageError : no slot fits, or several.
    """
    left = chosen_slots(slots, model=model, dataset=dataset, task=task)
    where = f"{model} on {left[0].dataset}"
    number = the_one("fold", where, [slot.fold for slot in left], fold)
    left = [slot for slot in left if slot.fold == number]
    number = the_one("seed", f"{where}, fold {number}", [slot.seed for slot in left], seed)
    return next(slot for slot in left if slot.seed == number)


def chosen_slots(slots: Sequence[Slot], *, model: str, dataset: str | None, task: str | None) -> list[Slot]:
    """The slots of all folds and seeds of what is asked for; raises as `chosen_slot`."""
    the_one("model", "the run", [slot.model for slot in slots], model)
    left = [slot for slot in slots if slot.model == model]
    name = the_one("dataset", model, [slot.dataset for slot in left], dataset)
    left = [slot for slot in left if slot.dataset == name]
    groups = [slot.group for slot in left]
    # a model of all tasks has the task that is asked for too
    group = the_one(
        "task", f"{model} on {name}", groups, ALL_TASKS if task not in groups and ALL_TASKS in groups else task
    )
    return [slot for slot in left if slot.group == group]


def the_one(what: str, where: str, found: Sequence[Value], asked: Value | None) -> Value:
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
