"""Trained: the finished trials of one cohort of a run, and their models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from milbench.cohorts.bag_names import SLIDE
from milbench.cohorts.feature_facts import feature_facts
from milbench.cohorts.scaling import FITTED_MODES, FeatureScaler
from milbench.endpoints.endpoint import Endpoint
from milbench.engines.shards import Shard, every_slot
from milbench.errors import DataError, StoreError, UsageError, unknown_name
from milbench.external.checks import HEADERS, headers
from milbench.heatmap.stored import RunCohort, StoredModel, find_cohort, plugins_of_run, trained_model
from milbench.labels.finding import some
from milbench.registry import load_models, select
from milbench.store.feature_facts import Facts
from milbench.store.run import Run
from milbench.store.trial import StoredTrial


@dataclass(frozen=True, eq=False)
class Trained:
    """The finished trials of one cohort of a run.

    Attributes
    ----------
    dataset : name of the run's cohort.
    trials : finished ones, all with weights.
    n_planned : trials that the run's plan holds for the cohort, those of all its shards counted.
    data_root : where the datasets' data lie; None = as the run had it.
    """

    run: Run
    dataset: str
    trials: tuple[StoredTrial, ...]
    n_planned: int
    data_root: Path | None = None

    @property
    def tasks(self) -> dict[str, Endpoint]:
        """What the trials' tasks ask, in the order of the cohort's tasks."""
        found = {task: fitted.endpoint for trial in self.trials for task, fitted in trial.endpoint_of.items()}
        order = [*self.run.datasets[self.dataset]["tasks"]]
        return {task: found[task] for task in dict.fromkeys((*order, *found)) if task in found}

    @property
    def labels(self) -> pd.DataFrame | None:
        """Labels of the run's cohort; None in an older run, which stored none."""
        return self.run.labels(self.dataset) if self.run.label_file(self.dataset).exists() else None

    @property
    def bag(self) -> str:
        """What a bag of the training is: "slide" or "patient"."""
        return str(self.run.datasets[self.dataset].get("bag", SLIDE))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the run noted of its cohort."""
        return tuple(map(str, self.run.datasets[self.dataset].get("notes", ())))

    @property
    def patients(self) -> pd.DataFrame:
        """slide_id and patient_id of all slides that the run knows of."""
        if joined := self.run.datasets[self.dataset].get("slides_of"):
            rows = [(slide, patient) for patient, slides in joined.items() for slide in slides]
            return pd.DataFrame(rows, columns=["slide_id", "patient_id"])
        if self.labels is not None:
            return self.labels[["slide_id", "patient_id"]]
        roles = self.run.roles(self.dataset)
        return pd.DataFrame({"slide_id": roles["patient_id"], "patient_id": roles["patient_id"]})

    @property
    def needs_data(self) -> bool:
        """Whether a scaler has to be fitted on training slides again."""
        return any(trial.info.get("feature_scaling") in FITTED_MODES for trial in self.trials)

    @property
    def in_features(self) -> int:
        """Width of the features that the models take.

        Raises
        ------
        DataError : an older run does not tell, and its data are not there.
        """
        told = self.run.datasets[self.dataset].get("in_features")
        if told is None and self.training is None:
            raise DataError(
                f"run {self.run.name} does not tell how wide features of '{self.dataset}' are, and its data are not there. "
                "Say where they lie with --data-root."
            )
        return int(told or self.training.cohort.in_features)  # type: ignore[union-attr]

    @cached_property
    def features(self) -> Facts:
        """What the training's feature files tell of their making: as the run keeps it, else as some of the files tell.

        Empty if an older run keeps nothing and its data are not there; raises `DataError` as `training`.
        """
        if kept := self.run.datasets[self.dataset].get("features"):
            return dict(kept)
        if self.training is None:
            return {}
        by_slide = self.training.cohort.by_slide
        return feature_facts(headers(by_slide, by_slide.slides["slide_id"][:HEADERS]).values())

    @cached_property
    def training(self) -> RunCohort | None:
        """The run's cohort; None if its data are not there any more and nothing of them is needed.

        Raises
        ------
        DataError : the data are needed and not there.
        """
        try:
            return find_cohort(self.run, self.dataset, self.data_root)
        except DataError:
            if self.needs_data:
                raise
            return None

    def of_models(self, words: Sequence[str] | None) -> Trained:
        """The trials of some models, by names or patterns; all if none is named."""
        if words is None:
            return self
        known = list(dict.fromkeys(str(trial.info["model"]) for trial in self.trials))
        names = select(f"model of run {self.run.name}", words, known)
        trials = tuple(trial for trial in self.trials if trial.info["model"] in names)
        slots = [slot for slot in every_slot(self.run) if slot.dataset == self.dataset and slot.model in names]
        return replace(self, trials=trials, n_planned=len(slots))

    def for_slides(self, why_without_coords: Callable[[], str]) -> tuple[Trained, list[str]]:
        """The trials whose models can take some slides, and a line on each model that cannot.

        Parameters
        ----------
        why_without_coords : asks the slides why their coordinates cannot be used; "" = they can.

        Raises
        ------
        DataError : no model is left.
        """
        known = load_models(plugins_of_run(self.run))
        names = list(dict.fromkeys(str(trial.info["model"]) for trial in self.trials))
        asking = [name for name in names if name in known and known[name].info.needs_coords]
        why = why_without_coords() if asking else ""
        if not why:
            return self, []
        lines = [f"{name} is left out: it needs the patches' coordinates, and {why}" for name in asking]
        left = [name for name in names if name not in asking]
        if not left:
            raise DataError(f"{lines[0]}. Extract with coordinates (CLAM's .h5, TRIDENT, STAMP).")
        return self.of_models(left), lines

    def of_shard(self, shard: Shard) -> Trained:
        """Every n-th trial, model by model; the same trials whichever are scored already."""
        order = sorted(self.trials, key=lambda trial: (trial.info["model"], trial.info["key"]))
        mine = {trial.id for trial in order[shard.number - 1 :: shard.count]}
        return replace(self, trials=tuple(trial for trial in self.trials if trial.id in mine))

    def models(self, trials: Sequence[StoredTrial]) -> list[StoredModel]:
        """The models that these trials left behind; raises as `milbench.heatmap.stored.trained_model`."""
        if self.needs_data and self.training is not None:
            return [self.training.load_trial(trial) for trial in trials]
        width = self.in_features
        scalers = {mode: FeatureScaler(mode) for mode in {str(trial.info["feature_scaling"]) for trial in trials}}
        return [
            StoredModel(trial, trained_model(self.run, trial, width), scalers[str(trial.info["feature_scaling"])])
            for trial in trials
        ]


def trained(run: Run, dataset: str | None = None, data_root: Path | None = None) -> Trained:
    """The finished trials of one cohort of the run; its name need not be said if the run has one.

    Raises
    ------
    UsageError : the run has no such cohort, or several.
    StoreError : no trial is finished, or one has no weights.
    """
    if dataset is None and len(run.datasets) > 1:
        raise UsageError(f"run {run.name} has the cohorts {', '.join(run.datasets)}. Say whose models with --dataset.")
    name = dataset or next(iter(run.datasets), "")
    if name not in run.datasets:
        raise unknown_name(f"cohort of run {run.name}", name, run.datasets)
    trials = tuple(trial for trial in run.trials() if trial.info["dataset"] == name)
    if not trials:
        raise StoreError(f"run {run.path} has no finished trial on '{name}'. Start the run's command first.")
    without = [trial.id for trial in trials if not trial.keeps_weights]
    if without:
        raise StoreError(
            f"run {run.path} keeps no weights of {len(without)} of {len(trials)} trials ({some(without)}), so their models "
            "cannot score a slide. Run once more without --no-weights, in another folder: milbench run ... --run FOLDER."
        )
    return Trained(run, name, trials, sum(slot.dataset == name for slot in every_slot(run)), data_root)
