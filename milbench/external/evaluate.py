"""Evaluate: every finished trial of a run scores the slides of an external cohort.

Nothing of the external cohort decides anything: scalers, time bins, classes and thresholds are those of the training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.optional import labels_of
from milbench.cohorts.record import read_record, see
from milbench.cohorts.scaling import FITTED_MODES, FeatureScaler
from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fit import patient_labels
from milbench.engines.predictions import answers_table, predictions_table
from milbench.errors import DataError, StoreError, UsageError, unknown_name
from milbench.external.checks import (
    HEADERS,
    compared_extraction,
    headers,
    refuse_another_width,
    refuse_odd_headers,
    without_shared,
)
from milbench.external.labels import (
    absent_classes,
    aligned_labels,
    evaluated_tasks,
    known_tasks,
    label_shift,
    refuse_another_unit,
)
from milbench.external.scored import (
    CONTENT,
    CohortIdentity,
    ScoredTrial,
    external_folder,
    read_scored,
    scored_folder,
    write_scored,
)
from milbench.external.scoring import Checkpoint, Logits, Scorer, score
from milbench.heatmap.stored import RunCohort, StoredModel, find_cohort, outputs_of, trained_model
from milbench.labels.finding import some
from milbench.registry import select
from milbench.store.csv_files import exact_csv
from milbench.store.files import write_atomically, writing
from milbench.store.run import Run
from milbench.store.trial import StoredTrial

Watch = Callable[[Iterable[str], str], Iterable[str]]

CHECKPOINT = "scores.npz"


@dataclass(frozen=True, eq=False)
class Trained:
    """The finished trials of one cohort of a run.

    Attributes
    ----------
    dataset : name of the run's cohort.
    trials : finished ones, all with weights.
    n_planned : trials that the run's plan holds for the cohort.
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
    def patients(self) -> pd.DataFrame:
        """slide_id and patient_id of all slides that the run knows of."""
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
        slots = [slot for slot in self.run.slots() if slot.dataset == self.dataset and slot.model in names]
        return replace(self, trials=trials, n_planned=len(slots))

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
    return Trained(run, name, trials, sum(slot.dataset == name for slot in run.slots()), data_root)


@dataclass(frozen=True, eq=False)
class External:
    """An external cohort that has passed all checks.

    Attributes
    ----------
    source : the trials that score it.
    cohort : as it was read.
    slides : slide_id, patient_id and one column per task of the run, classes numbered as in the training.
    evaluated : tasks that the cohort has labels of.
    remarks : what was noticed, a line each.
    shift : labels of both cohorts (`label_shift`).
    """

    source: Trained
    cohort: Cohort
    slides: pd.DataFrame
    evaluated: tuple[str, ...]
    remarks: tuple[str, ...]
    shift: pd.DataFrame

    @property
    def name(self) -> str:
        """The cohort's name."""
        return self.cohort.name

    @property
    def identity(self) -> CohortIdentity:
        """What decides which slides are scored, and against which labels."""
        rows = hashlib.sha256(exact_csv(self.slides).encode()).hexdigest()
        hashes = labels_of(self.cohort.optional, self.evaluated)
        return CohortIdentity(self.name, self.cohort.fingerprint, hashes, rows)


def checked(source: Trained, cohort: Cohort, *, allow_overlap: bool = False) -> External:
    """The cohort, held against the training; no feature is read but heads of files.

    Raises
    ------
    DataError : patients in common, another encoder, width, kind of task, class or unit of time.
    """
    tasks, width = source.tasks, source.in_features
    evaluated = evaluated_tasks(list(tasks), cohort)
    refuse_another_width(cohort, width, source.dataset)
    slides = aligned_labels(cohort, tasks, evaluated)
    slides, remarks = without_shared(
        slides, source.patients, cohort=cohort.name, dataset=source.dataset, allow=allow_overlap
    )
    evaluated = known_tasks(cohort.name, slides, evaluated)
    own = source.labels
    for task in evaluated:
        if tasks[task].kind == "survival" and own is not None:
            of_both = (patient_labels(table, task, tasks[task]) for table in (own, slides))
            refuse_another_unit(cohort.name, task, *of_both)
    remarks += _extraction(cohort, slides, source.training, width)
    remarks += _unlabelled(slides, tasks, evaluated)
    remarks += _scaling(cohort, source)
    return External(source, cohort, slides, evaluated, tuple(remarks), label_shift(tasks, evaluated, own, slides))


def _extraction(cohort: Cohort, slides: pd.DataFrame, training: RunCohort | None, width: int) -> list[str]:
    theirs = headers(cohort, slides["slide_id"])
    refuse_odd_headers(theirs, width, cohort.name)
    if training is None:
        return ["the training's feature files are not there, so encoder and magnification were not compared"]
    own = headers(training.cohort, training.cohort.slides["slide_id"][:HEADERS])
    return compared_extraction(theirs, own, cohort.name)


def _unlabelled(slides: pd.DataFrame, tasks: Mapping[str, Endpoint], evaluated: Sequence[str]) -> list[str]:
    """Lines on tasks without a column, slides without a label, and classes without a patient."""
    absent = [task for task in tasks if task not in evaluated]
    lines = [f"not evaluated, because the cohort has no labels of them: {', '.join(absent)}"] if absent else []
    for task in evaluated:
        unknown = int(slides[task].isna().sum())
        if unknown:
            lines.append(f"{task}: {unknown} of {len(slides)} slides have no label")
        classes = absent_classes(slides[task], tasks[task])
        if classes:
            undefined = ", so a mean over classes is undefined" if tasks[task].kind == "multiclass" else ""
            lines.append(f"{task}: no slide has the class {', '.join(classes)}{undefined}")
    return lines


def _scaling(cohort: Cohort, source: Trained) -> list[str]:
    used = {str(trial.info["feature_scaling"]) for trial in source.trials}
    if cohort.feature_scaling in used:
        return []
    return [
        f"features are scaled as in the training ({', '.join(sorted(used))}); the cohort's own feature_scaling "
        f"'{cohort.feature_scaling}' is not used"
    ]


class Scores(NamedTuple):
    """What all trials say of an external cohort.

    Attributes
    ----------
    trials : with the cohort as their test side, in the order of the run.
    n_new : trials that scored it now; the others had done so before.
    n_replaced : those of them whose scores of other labels, features or weights, or damaged ones, gave way.
    """

    trials: list[ScoredTrial]
    n_new: int
    n_replaced: int


def scored(external: External, device: str, watch: Watch) -> Scores:
    """What every trial says of the cohort, from disk where it is there, else computed and stored.

    Raises
    ------
    DataError : a slide of the run's cohort hides among the slides under another name, or a slide cannot be scored.
    StoreError : the run folder cannot be written.
    """
    external = _seen(external)
    run, identity, trials = external.source.run, external.identity, external.source.trials

    def stored() -> dict[str, ScoredTrial]:
        read = (read_scored(run, identity, trial, external.evaluated) for trial in trials)
        return {each.id: each for each in read if each is not None}

    found = stored()
    pending = [trial for trial in trials if trial.id not in found]
    n_replaced = sum(scored_folder(run, identity.name, trial.id).exists() for trial in pending)
    if pending:
        _compute(external, pending, device, watch)
        found = stored()
    return Scores(list(found.values()), len(pending), n_replaced)


def _seen(external: External) -> External:
    """The cohort under the fingerprint of all that its files hold; files that are as they were are not read again."""
    run, cohort = external.source.run, external.cohort
    if not cohort.files:
        return external
    path = external_folder(run, cohort.name) / CONTENT
    before = read_record(path)
    seen = see(cohort, before, before.slides)
    with writing(run.path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seen.record.to_json())
    own = read_record(run.content_file(external.source.dataset)).slides
    known = {content.sha256: slide for slide, content in own.items()}
    copies = [slide for slide in external.slides["slide_id"] if seen.record.slides[slide].sha256 in known]
    if copies:
        twin = known[seen.record.slides[copies[0]].sha256]
        raise DataError(
            f"{len(copies)} slides of cohort '{cohort.name}' hold the very features of slides of the run's cohort "
            f"'{external.source.dataset}' ({copies[0]} those of {twin}). Leave them out of the labels."
        )
    return replace(external, cohort=replace(cohort, fingerprint=seen.cohort.fingerprint))


def _compute(external: External, pending: Sequence[StoredTrial], device: str, watch: Watch) -> None:
    """Score the cohort with the models of these trials, and store what each says."""
    run, identity = external.source.run, external.identity
    scorer = Scorer(external.source.models(pending), device)
    facts = {"trials": [identity.of_trial(trial) for trial in pending], "device": device}
    checkpoint = Checkpoint(external_folder(run, external.name) / CHECKPOINT, facts)
    slides = [str(slide) for slide in external.slides["slide_id"]]
    with writing(run.path):
        every = score(scorer, slides, external.cohort.load, checkpoint, watch)
    for trial, logits in zip(pending, every, strict=True):
        write_scored(run, identity, trial, predictions_of(trial, external.slides, logits), device)
    checkpoint.delete()


def predictions_of(trial: StoredTrial, slides: pd.DataFrame, logits: Logits) -> pd.DataFrame:
    """What a trial says of slides, as its own predictions are stored; all slides are on the side "test".

    Parameters
    ----------
    slides : slide_id, patient_id and one column per task.
    logits : [n, W].
    """
    tasks = tuple(trial.info["tasks"])
    labels = slides[list(tasks)].to_numpy(dtype=np.float64)
    probabilities = sigmoid(logits)
    if not trial.endpoints:
        return predictions_table("test", slides, tasks, labels, probabilities)
    return answers_table("test", slides, tasks, outputs_of(trial).endpoints, labels, logits, probabilities)


def sigmoid(logits: Logits) -> NDArray[np.float64]:
    """Sigmoid of each logit in float32, as a trial's own probabilities are made."""
    import torch

    return np.asarray(torch.sigmoid(torch.from_numpy(logits)).double().numpy())
