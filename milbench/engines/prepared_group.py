"""PreparedGroup: a group of jobs with its data and its learner, new or as its checkpoint left it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import torch

import milbench
from milbench.engines.checkpoint import load_checkpoint, load_fold_stack, save_checkpoint, save_fold_stack
from milbench.engines.model_memory import step_cost
from milbench.errors import MilbenchError
from milbench.models import MILModel, build
from milbench.process.shared_state import WARNING_FILTERS, left_as_it_was
from milbench.registry import load_models
from milbench.serving.cohort_features import LEARNERS_SHARE, CohortFeatures
from milbench.serving.fold_data import FoldData, fold_data, load_split
from milbench.splits import Split
from milbench.store.identity import canonical_json
from milbench.store.run import Run
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.trials.job import Job, JobGroup
from milbench.trials.plan import Trial

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Lanes:
    """What the folds of a fold stack have in common, each of which is a `PreparedGroup` of one trial.

    Attributes
    ----------
    job : that speaks for all of them.
    trials : of all folds, in order.
    """

    job: Job
    trials: tuple[Trial, ...]
    stack: FoldStack


@dataclass(frozen=True)
class PreparedGroup:
    """A group, ready to train; of a fold stack the part that is of one fold.

    Attributes
    ----------
    group : its jobs; none if it is a fold that is trained along.
    trials : those of the group's jobs and those that are trained along, in the order of their slots.
    resumed_seconds : what the learner had taken when this process took it up.
    lanes : of the fold stack that it belongs to; None = it stands for itself.
    """

    group: JobGroup
    trials: tuple[Trial, ...]
    data: FoldData
    learner: Learner
    resumed_seconds: float
    lanes: Lanes | None = None

    @property
    def n_together(self) -> int:
        """Number of trials that take their steps together."""
        return len(self.trials) if self.lanes is None else len(self.lanes.trials)

    @property
    def is_last(self) -> bool:
        """Whether it is the last of those that share a checkpoint."""
        return self.lanes is None or self.learner is self.lanes.stack.learners[-1]

    @property
    def own_seconds(self) -> float:
        """What the learner has taken in this process."""
        return self.learner.seconds - self.resumed_seconds

    @property
    def checkpoint(self) -> Path:
        """File of its checkpoint, named after all that decides what the checkpoint would hold."""
        return self._speaker.run / CHECKPOINTS / f"{self.identity[:32]}.safetensors"

    @property
    def _speaker(self) -> Job:
        return self.group.first if self.lanes is None else self.lanes.job

    @property
    def identity(self) -> str:
        """SHA-256 of the trials, their code as far as it is known, and the settings that decide the last digits."""
        job, trials = self._speaker, self.trials if self.lanes is None else self.lanes.trials
        decides = [torch.__version__, milbench.__version__, torch.device(job.device).type, job.threads]
        decides += [trial.source_sha256 for trial in trials]
        decides += [job.kernels] if job.kernels != "plain" else []
        decides += ["cuda graphs"] if job.cuda_graphs else []
        return hashlib.sha256(canonical_json([*(trial.key for trial in trials), decides]).encode()).hexdigest()

    def save(self) -> None:
        """Write the checkpoint. That of a fold stack is written with its last fold.

        Raises
        ------
        OSError : the disk is full or the folder cannot be written.
        """
        if self.lanes is None:
            save_checkpoint(self.learner, self.checkpoint, self.identity)
        elif self.is_last:
            save_fold_stack(self.lanes.stack.learners, self.checkpoint, self.identity)


def prepare_group(run: Run, group: JobGroup, cohort_features: CohortFeatures) -> list[PreparedGroup]:
    """The group with its learner, which starts anew or goes on from its checkpoint; a fold stack fold by fold."""
    trial = group.first.trial
    split = load_split(run.split_file(trial.dataset), trial.split_sha256)
    if group.has_folds:
        prepared = _new_fold_stack(group, split, cohort_features)
        load_fold_stack([each.learner for each in prepared], prepared[0].checkpoint, prepared[0].identity)
    else:
        prepared = [new_group(group, split, cohort_features)]
        load_checkpoint(prepared[0].learner, prepared[0].checkpoint, prepared[0].identity)
    return [replace(each, resumed_seconds=each.learner.seconds) for each in prepared]


def new_group(group: JobGroup, split: Split, cohort_features: CohortFeatures) -> PreparedGroup:
    """The group with its learner, which starts anew."""
    return _new(group, group.first, _members(group), split, cohort_features)


def _new_fold_stack(group: JobGroup, split: Split, cohort_features: CohortFeatures) -> list[PreparedGroup]:
    """Each fold of the group with its learner, which starts anew."""
    trials = _members(group)
    parts = [JobGroup(tuple(job for job in group if job.trial.key == trial.key)) for trial in trials]
    prepared = [
        _new(part, replace(group.first, trial=trial), (trial,), split, cohort_features)
        for part, trial in zip(parts, trials, strict=True)
    ]
    stack = FoldStack([each.learner for each in prepared])
    return [replace(each, lanes=Lanes(group.first, trials, stack)) for each in prepared]


def _new(
    group: JobGroup, job: Job, trials: tuple[Trial, ...], split: Split, cohort_features: CohortFeatures
) -> PreparedGroup:
    data = fold_data(cohort_features.cohort.slides, split, trials, cohort_features.features, cohort_features.scalers)
    learner = _new_learner(job, trials, data, cohort_features)
    return PreparedGroup(group, trials, data, learner, resumed_seconds=0.0)


def _members(group: JobGroup) -> tuple[Trial, ...]:
    """All trials that take their steps together, in an order that does not depend on which were finished before."""
    others = group.first.others if group.first.trains_in_stack else ()
    return tuple(sorted((*(job.trial for job in group), *others), key=lambda trial: trial.slot))


def _new_learner(job: Job, trials: Sequence[Trial], data: FoldData, cohort_features: CohortFeatures) -> Learner:
    in_features, step_bytes = cohort_features.cohort.in_features, cohort_features.step_bytes
    return Learner(
        [build_model(trial, in_features, job.plugins) for trial in trials],
        job.trial.recipe,
        data.sides["train"],
        data.sides["val"],
        seed=job.trial.seed,
        device=torch.device(job.device),
        precision=job.trial.precision,
        cost=step_cost(job, in_features, own_bags=job.trains_in_stack and len(trials) == 1) if step_bytes else None,
        budget_bytes=ceil(step_bytes * (1 - LEARNERS_SHARE)),  # never rounded to 0, which is no limit
        scaler=data.scaler,
        endpoints=[trial.outputs.endpoints for trial in trials],
        recipes=[trial.recipe for trial in trials],
    )


def build_model(trial: Trial, in_features: int, plugins: tuple[Path, ...] = ()) -> MILModel:
    """The trial's model, its weights drawn from the trial's seed."""
    known = load_models(plugins)[trial.model]
    with left_as_it_was() as moved:
        model = build(known, in_features, trial.outputs, trial.hyperparameters, seed=trial.seed)
    if shared := [each for each in moved if each.name != WARNING_FILTERS]:
        raise MilbenchError(
            f"{known.__name__} changes {', '.join(map(str, shared))} as it is built, which all models of the process share. "
            "It was put back. Leave it as it is in __init__ (docs/models.md)."
        )
    return model
