"""Memory that a job's model takes in training: weights with all that goes with them, and a step by its patches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from milbench.endpoints.outputs import Outputs
from milbench.models import MILModel
from milbench.process.must_return import DidNotReturnError
from milbench.registry import load_models
from milbench.store.identity import canonical_json
from milbench.training.activations import ActivationCost, activation_cost
from milbench.trials.job import Job, JobGroup

COPIES_OF_WEIGHTS = 5
"""Weights, gradients, two moments, the best epoch's weights."""


def learner_bytes(group: JobGroup, in_features: int) -> int:
    """Memory of all trials of a group, without their steps; 0 if the model cannot be made."""
    job = group.first
    n = len(group) + len(job.others if job.trains_in_stack else ())
    copies = COPIES_OF_WEIGHTS + group.has_folds  # the weights of the folds that take a step
    return n * copies * (_of_model(_weight_bytes, job, in_features) or 0)


def neighbours_asked_for(groups: Iterable[JobGroup], in_features: int) -> int | None:
    """The most neighbours that a model of the groups wants of each patch; None = no model asks where patches lie."""
    asked: list[int | None] = [_of_model(_neighbours, group.first, in_features) for group in groups]
    return max((number for number in asked if number is not None), default=None)


def _neighbours(model: MILModel) -> int | None:
    return model.wanted_neighbours


def step_cost(job: Job, in_features: int) -> ActivationCost | None:
    """Memory of a step of the job's model; None if it cannot be told, and then no limit holds."""
    cost: ActivationCost | None = _of_model(activation_cost, job, in_features)
    return cost


def _of_model(tell: Callable[[MILModel], Any], job: Job, in_features: int) -> Any:
    """What `tell` says of the job's model; None if the model's own code raises: it will raise in training too, which records it."""
    trial = job.trial
    try:
        with torch.random.fork_rng(devices=[]):
            return _told(
                tell,
                trial.model,
                in_features,
                trial.outputs,
                canonical_json(dict(trial.hyperparameters)),
                job.plugins,
            )
    except (Exception, SystemExit, DidNotReturnError):  # noqa: BLE001 - whatever a model does
        return None


@lru_cache(maxsize=64)
def _told(
    tell: Callable[[MILModel], Any],
    model: str,
    in_features: int,
    outputs: Outputs,
    hyperparameters: str,
    plugins: tuple[Path, ...],
) -> Any:
    return tell(load_models(plugins)[model](in_features, outputs, **json.loads(hyperparameters)))


def _weight_bytes(model: MILModel) -> int:
    return sum(p.nbytes for p in model.parameters())
