"""What memory a job's model takes in training: weights with all that goes with them, and a step by its patches."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch

from milbench.activations import ActivationCost, activation_cost
from milbench.job import Group, Job
from milbench.plan import canonical_json
from milbench.registry import load_models

COPIES_OF_WEIGHTS = 5
"""Weights, gradients, two moments, the best epoch's weights."""


def learner_bytes(group: Group, in_features: int) -> int:
    """Of all members of a stack; 0 where the model cannot be made, which will fail where it is recorded."""
    job = group[0]
    n, arguments = len(group) + len(job.others if job.stacked else ()), canonical_json(dict(job.trial.hyperparameters))
    try:
        with torch.random.fork_rng(devices=[]):
            one = _weight_bytes(job.trial.model, in_features, len(job.trial.tasks), arguments, job.plugins)
    except (Exception, SystemExit):  # noqa: BLE001 - a model's own code
        return 0
    return n * COPIES_OF_WEIGHTS * one


@lru_cache(maxsize=32)
def _weight_bytes(model: str, in_features: int, n_tasks: int, hyperparameters: str, plugins: tuple[Path, ...]) -> int:
    built = load_models(plugins)[model](in_features, n_tasks, **json.loads(hyperparameters))
    return sum(p.nbytes for p in built.parameters())


@lru_cache(maxsize=32)
def _activation_cost(
    model: str, in_features: int, n_tasks: int, hyperparameters: str, plugins: tuple[Path, ...]
) -> ActivationCost:
    built = load_models(plugins)[model](in_features, n_tasks, **json.loads(hyperparameters))
    return activation_cost(built)


def step_cost(job: Job, in_features: int) -> ActivationCost | None:
    """Memory of a step of the job's model; None where it can't be told, and then no limit holds."""
    trial = job.trial
    arguments = canonical_json(dict(trial.hyperparameters))
    try:
        with torch.random.fork_rng(devices=[]):
            cost: ActivationCost = _activation_cost(trial.model, in_features, len(trial.tasks), arguments, job.plugins)
            return cost
    except Exception:  # noqa: BLE001 - a model that raises will do so in training, where it is recorded
        return None
