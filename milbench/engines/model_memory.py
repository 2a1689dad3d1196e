"""Memory that a job's model takes in training: weights with all that goes with them, and a step by its patches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from milbench.endpoints.outputs import Outputs
from milbench.models import MILModel
from milbench.process.must_return import DidNotReturnError
from milbench.registry import load_models
from milbench.store.identity import canonical_json
from milbench.training.followed_cost import step_cost as cost_of_step
from milbench.training.step_cost import StepCost
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


def step_cost(job: Job, in_features: int, *, own_bags: bool) -> StepCost | None:
    """Memory of a step of the job's model; None if it cannot be told, and then no limit holds.

    Parameters
    ----------
    own_bags : whether it is of a stack whose trials have bags of their own.
    """
    cost: StepCost | None = _of_model(
        _cost_of(torch.device(job.device).type, job.trains_in_stack, own_bags), job, in_features
    )
    return cost


@lru_cache
def _cost_of(kind: str, in_stack: bool, own_bags: bool) -> Callable[[MILModel], StepCost]:  # noqa: FBT001 - arguments of a cache
    """One function for each way to train, so that what it told of a model is found again."""
    return partial(cost_of_step, device=torch.device(kind), in_stack=in_stack, own_bags=own_bags)


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
