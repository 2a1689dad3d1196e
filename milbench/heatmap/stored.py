"""Stored: a run's cohorts found again, and its models with the weights that they ended with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.cohorts.optional import labels_of
from milbench.cohorts.scaling import FeatureScaler
from milbench.datasets import all_datasets
from milbench.datasets.source import CohortSource
from milbench.endpoints.outputs import Outputs
from milbench.errors import CheckpointError, DataError, MilbenchError, StoreError, UsageError, unknown_name
from milbench.heatmap.trained import TrainedModel, built_with
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.splits import ROLES, Split
from milbench.store.question import differences
from milbench.store.run import Run
from milbench.store.run_folder import DATASETS
from milbench.store.slot import ALL_TASKS, Slot
from milbench.store.trial import WEIGHTS, StoredTrial


class StoredModel(TrainedModel):
    """The model of a trial on disk.

    Attributes
    ----------
    trial : the trial on disk.
    """

    def __init__(self, trial: StoredTrial, model: MILModel, scaler: FeatureScaler) -> None:
        risk = trial.info.get("training_risk", {})
        super().__init__(trial.id, model, trial.info["tasks"], outputs_of(trial), scaler, risk)
        self.trial = trial


class RunCohort:
    """One cohort of a run: its slides, its split and its stored models."""

    def __init__(self, run: Run, cohort: Cohort) -> None:
        self.run, self.cohort = run, cohort
        self.split = Split.from_csv(run.split_file(cohort.name))
        self._scalers: dict[tuple[int, str], FeatureScaler] = {}

    def __repr__(self) -> str:
        return f"RunCohort({self.run!r}, {self.cohort!r})"

    @property
    def name(self) -> str:
        """The cohort's name."""
        return self.cohort.name

    @cached_property
    def slots(self) -> list[Slot]:
        """Planned trials of this cohort."""
        return [slot for slot in self.run.slots() if slot.dataset == self.name]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the run learns of this cohort; the cohort may have more (`--tasks`)."""
        learned = self.run.datasets[self.name].get("tasks") or self.cohort.tasks
        return tuple(task for task in self.cohort.every_task if task in learned)

    @property
    def models(self) -> list[str]:
        """Models of the run, in the order of the tables."""
        planned = {slot.model for slot in self.slots}
        order = self.run.datasets[self.name].get("models", [])
        return sorted(planned, key=lambda name: (order.index(name) if name in order else len(order), name))

    @property
    def folds(self) -> list[int]:
        """Folds of the run."""
        return sorted({slot.fold for slot in self.slots})

    def slides(self, fold: int, role: str) -> list[str]:
        """Ids of the slides on one side of a fold, in cohort order."""
        return [str(slide) for slide in self.split.slides(self.cohort.slides, fold, role)["slide_id"]]

    def bag_of(self, name: str) -> str:
        """Id of the bag that is called so, or that holds the slide of this id.

        Raises
        ------
        UsageError : there is neither.
        """
        members = self.cohort.members
        found = [name] if name in members else [bag for bag, slides in members.items() if name in slides]
        if not found:
            raise unknown_name(f"slide of {self.name}", name, members)
        return found[0]

    def role(self, slide_id: str, fold: int) -> str:
        """Side of the fold that the slide is on."""
        return next(role for role in ROLES if slide_id in self.slides(fold, role))

    def label(self, slide_id: str, task: str) -> float:
        """The slide's label as one number (`milbench.endpoints.endpoint`); NaN where unknown."""
        table = self.cohort.slides
        return float(table.loc[table["slide_id"] == slide_id, task].iloc[0])

    def trial(self, model: str, task: str, fold: int) -> StoredTrial:
        """The trial of a model that learned `task` in `fold`, with the lowest seed.

        Raises
        ------
        UsageError : the run has no such model, or not in that fold.
        StoreError : the trial failed, is not done yet or is damaged.
        """
        if model not in self.models:
            raise unknown_name(f"model of run {self.run.name}", model, self.models)
        fits = self._slots_of(model, task, fold)
        if not fits and task not in self.tasks:
            raise unknown_name(f"task of run {self.run.name}", task, self.tasks)
        if not fits:
            folds = sorted({slot.fold for slot in self.slots if slot.model == model})
            raise unknown_name(f"fold of {model} on {self.name}", str(fold), map(str, folds))
        chosen = min(fits, key=lambda slot: slot.seed)
        return finished_trial(self.run, chosen.trial_id)

    def load(self, model: str, task: str, fold: int) -> StoredModel:
        """The model that learned `task` in `fold`, as its trial left it. Raises as `trial`."""
        return self.load_trial(self.trial(model, task, fold))

    def load_all(self, model: str, fold: int) -> list[StoredModel]:
        """Everything that the run lets `model` learn in `fold`: one stored model per task, or one for all.

        It is empty if the run has the model in other folds only. Raises as `trial`.
        """
        planned = [task for task in self.tasks if self._slots_of(model, task, fold)]
        trials = (self.trial(model, task, fold) for task in planned)
        return [self.load_trial(trial) for trial in {trial.id: trial for trial in trials}.values()]

    def _slots_of(self, model: str, task: str, fold: int) -> list[Slot]:
        return [s for s in self.slots if s.model == model and s.group in (task, ALL_TASKS) and s.fold == fold]

    def load_trial(self, trial: StoredTrial) -> StoredModel:
        """The model that `trial` left behind.

        Raises
        ------
        StoreError : the run kept no weights.
        DataError : the cohort is not the one that the model was trained on.
        """
        info = trial.info
        labels = labels_of(self.cohort.optional, info["tasks"])
        if info["fingerprint"] != self.cohort.fingerprint or info.get("labels_sha256", {}) != labels:
            raise DataError(
                f"cohort '{self.name}' is not the one that {trial.id} was trained on: its labels or features have "
                "changed since. Point --data-root to the former data, or run again."
            )
        model = trained_model(self.run, trial, self.cohort.in_features)
        return StoredModel(trial, model, self._scaler(int(info["fold"]), str(info["feature_scaling"])))

    def _scaler(self, fold: int, mode: str) -> FeatureScaler:
        """Scaler fitted on the fold's training slides, once."""
        if (fold, mode) not in self._scalers:
            training = (self.cohort.load(slide).features for slide in self.slides(fold, "train"))
            self._scalers[fold, mode] = FeatureScaler(mode).fit(training)
        return self._scalers[fold, mode]


def finished_trial(run: Run, trial_id: str) -> StoredTrial:
    """The trial; raises `StoreError` if it failed, is not done yet, is damaged or answers another question."""
    stored = run.trial(trial_id)
    if stored is None:
        raise StoreError(f"{trial_id} is not done, failed or is damaged. Start the run's command again.")
    if other := differences(run.asked(), stored.info):
        raise StoreError(
            f"{trial_id} was trained on what {run.path} does not ask any more ({'; '.join(other)}). "
            "Start the run's command again for this model and fold."
        )
    return stored


def outputs_of(trial: StoredTrial) -> Outputs:
    """The logits of the trial's model, with the tasks that they answer."""
    return Outputs(trial.endpoints) if trial.endpoints else Outputs.of(len(trial.info["tasks"]))


def trained_model(run: Run, trial: StoredTrial, in_features: int) -> MILModel:
    """The model with the weights that its trial ended with, in eval mode; it takes scaled features [N, in_features].

    Raises
    ------
    UsageError : the model is not registered any more.
    StoreError : the run kept no weights, or those of another model.
    """
    info = trial.info
    known, weights = _known_model(run, str(info["model"])), _weights(run, trial)
    try:
        return built_with(
            weights, known, in_features, outputs_of(trial), info["hyperparameters"], seed=int(info["seed"])
        )
    except CheckpointError as error:
        raise StoreError(
            f"the weights of {trial.id} are not those of the model '{info['model']}' as it is now ({error}). "
            "Delete the trial's folder and start the run's command again, or use the model's file of that time."
        ) from error


def _known_model(run: Run, name: str) -> type[MILModel]:
    known = load_models(plugins_of_run(run))
    if name not in known:
        raise unknown_name("model", name, known)
    return known[name]


def plugins_of_run(run: Run) -> tuple[Path, ...]:
    """The plug-in files that the run was told of. What came with a run folder is data, and is never imported.

    Raises
    ------
    UsageError : a plug-in lies in the run folder.
    """
    plugins = tuple(Path(plugin) for plugin in run.config.get("plugins", ()))
    for plugin in plugins:
        if plugin.resolve().is_relative_to(run.path.resolve()):
            raise UsageError(f"{run.path} names the plug-in {plugin}, which lies in the run folder. Move it elsewhere.")
    return plugins


def _weights(run: Run, trial: StoredTrial) -> Mapping[str, Tensor]:
    path = trial.path / WEIGHTS
    if not trial.keeps_weights:
        raise StoreError(
            f"run {run.path} keeps no weights ({trial.id} has no {WEIGHTS}), so its models cannot look at a slide "
            "again. Run once more without --no-weights, in another folder: milbench run ... --run FOLDER."
        )
    from safetensors.torch import load_file

    return dict(load_file(path))


# ---- cohorts -------------------------------------------------------------------------------------


def find_cohort(run: Run, name: str, data_root: Path | None = None) -> RunCohort:
    """The cohort called `name`, from where the run had it: the catalogue, or the run's own folders and files.

    Raises
    ------
    UsageError : no such cohort in the run.
    DataError : its data are not there any more.
    """
    if name not in run.datasets:
        raise unknown_name(f"cohort of run {run.name}", name, run.datasets)
    config = run.config
    plugins = plugins_of_run(run)
    if name in all_datasets(plugins):
        root = data_root or (Path(config["data_root"]) if config.get("data_root") else None)
        source = CohortSource(name=name, data_root=root, plugins=plugins)
    else:
        source = CohortSource(path=_own_path(run, name))
    source = replace(source, allow_missing=bool(config.get("allow_missing")), record=run.content_file(name))
    return RunCohort(run, source.load())


def _own_path(run: Run, name: str) -> Path:
    """Path of a user's own cohort, as the run was told, from here or from the folder of `runs/`."""
    told = [Path(path) for path in run.config.get("cohorts", ())]
    bases = (Path(), run.path.absolute().parent.parent)
    for path in (base / path for path in told for base in bases):
        if path.exists() and cohort_file(path).name == name:
            return path
    raise DataError(
        f"cohort '{name}' is no longer where run {run.name} had it ({', '.join(map(str, told)) or 'no path is known'}). "
        "Start the command where the run was started, or put the folder back."
    )


def dataset_of_slide(run: Run, slide_id: str) -> str:
    """Name of the run's cohort that holds the slide, or the patient if its bags are patients.

    Raises
    ------
    UsageError : none does; the message has the nearest names.
    """
    slides = {name: _slide_ids(run, name) for name in run.datasets}
    for name, ids in slides.items():
        if slide_id in ids:
            return name
    every = [slide for ids in slides.values() for slide in ids]
    near = get_close_matches(slide_id, every, n=3, cutoff=0.3) or every[:3]
    raise UsageError(
        f"run {run.name} has no slide '{slide_id}'. Nearest of its {len(every)}: {', '.join(near)}. "
        f"All ids stand in {run.path / 'labels'}{_and_in_datasets(run)}."
    )


def _and_in_datasets(run: Run) -> str:
    """Where ids of slides stand if bags are patients; empty if they all are bags."""
    is_joined = any("slides_of" in facts for facts in run.datasets.values())
    return f", those of slides of patients in {run.path / DATASETS}" if is_joined else ""


def _slide_ids(run: Run, name: str) -> list[str]:
    """Ids of the cohort's bags, then those of slides that bags join."""
    joined = run.datasets[name].get("slides_of", {})
    return [*run.labels(name)["slide_id"], *chain.from_iterable(joined.values())]


def check_task(cohort: RunCohort, task: str) -> str:
    """`task`, if the run learns it; raises `UsageError` otherwise."""
    if task not in cohort.tasks:
        raise unknown_name(f"task of {cohort.name}", task, cohort.tasks)
    return task


def with_maps(models: Iterable[StoredModel]) -> list[StoredModel]:
    """Models that have a map of their own, tried on a bag of two empty patches."""
    return [stored for stored in models if _has_maps(stored)]


def _has_maps(stored: StoredModel) -> bool:
    try:
        stored.model.maps(stored.model.bag_like(torch.zeros(2, stored.model.in_features)))
    except MilbenchError:
        return False
    return True


def truth_of(cohort: Cohort, labels: Any, task: str) -> Any:
    """Column [N] of a bag's instance labels that belongs to `task`, or None where the truth is not known.

    The evidence of a class, a grade or a score is not one set of patches, so such tasks have no truth.

    Raises
    ------
    DataError : a value is not between 0 and 1, or NaN: nobody knows what it means.
    """
    if labels is None or labels.shape[1] != len(cohort.tasks) or cohort.endpoint(task).kind != "binary":
        return None
    values = labels[:, cohort.tasks.index(task)].float()
    if not bool(((values >= 0) & (values <= 1)).all()):
        odd = values[~((values >= 0) & (values <= 1))][0]
        raise DataError(
            f"cohort '{cohort.name}': a patch's truth of task '{task}' is {float(odd):g}; expected 0 or 1. Write the instance "
            "labels again, or delete them."
        )
    return values.numpy().astype(bool)
