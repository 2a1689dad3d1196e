"""Epoch in progress: what a learner holds between the begin and the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from milbench.training.bag_groups import IndexedBag
from milbench.training.evaluation import Evaluation


@dataclass
class EpochInProgress:
    """What a learner holds between the begin and the end of an epoch.

    Attributes
    ----------
    buffers : name, tensor and version of each of the model's buffers as the epoch began.
    train_losses : float64 Tensor [S], summed over the training bags so far.
    task_losses : float64 Tensor [S, T], the same by task without the weights that move; 0 where none do.
    without_event : int64 Tensor [S, C], steps so far in which a Cox task had no event.
    evaluation : of the validation side.
    waiting : training bags of the next step.
    n_steps : optimiser steps so far.
    """

    buffers: list[tuple[str, Tensor, int]]
    train_losses: Tensor
    task_losses: Tensor
    without_event: Tensor
    evaluation: Evaluation
    waiting: list[IndexedBag]
    n_steps: int = 0
