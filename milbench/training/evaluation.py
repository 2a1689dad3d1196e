"""Evaluation: losses and probabilities of a side, gathered while its bags come by in any order."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.endpoints.probabilities import sigmoids
from milbench.layout import Patches
from milbench.training.bag_groups import IndexedBag, joins_evaluation
from milbench.training.bag_guard import BagGuard
from milbench.training.cox_tasks import CoxTasks
from milbench.training.randomness import Randomness
from milbench.training.side import Side
from milbench.training.step_memory import StepMemory
from milbench.training.weights import OneModel, ParameterStack


class Predictions(NamedTuple):
    """What S trials predict for n slides.

    Attributes
    ----------
    losses : float32 Tensor [S, n].
    logits : float32 [S, n, W].
    probabilities : [S, n, W], the sigmoid of each logit: of a binary task its probability.
    seconds : [n] wall time of the model alone, per trial. Slides and trials that go through together share it evenly.
    """

    losses: Tensor
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]


class Evaluation:
    """One pass of the weights over a side, without gradients. The caller sets the model's eval mode.

    Parameters
    ----------
    weights : of S trials.
    side : on the device, as the same S trials see it.
    memory : bounds the trials that are evaluated together, as it bounds those of a step.
    random : what models draw that are random in evaluation too.
    """

    def __init__(
        self,
        weights: OneModel | ParameterStack,
        side: Side,
        memory: StepMemory,
        bag_guard: BagGuard,
        random: Randomness,
    ) -> None:
        self.weights, self.side, self.memory, self.bag_guard, self.random = weights, side, memory, bag_guard, random
        self.cox = CoxTasks.of(weights.model.outputs)
        self.targets = self.cox.without_targets(side.targets)
        self.index_by_slide = side.index_by_slide()
        n_trials, n_slides, _ = side.targets.shape
        self.losses = side.targets.new_empty(n_trials, n_slides)
        self.logits = side.targets.new_empty(n_trials, n_slides, int(weights.model.outputs))
        self.seconds = np.zeros(n_slides)
        self.waiting: list[IndexedBag] = []

    def only_waits(self, patches: Patches) -> bool:
        """Whether `add` would have this bag wait, and no other go through the model."""
        return joins_evaluation(self.waiting, patches)

    def add(self, slide_id: str, patches: Patches) -> None:
        """Evaluate a bag. It waits for the bags after it that may go through together with it."""
        if not self.only_waits(patches):
            self._forward()
        self.waiting.append(IndexedBag(self.index_by_slide[slide_id], len(self.waiting), patches))

    def finish(self) -> Predictions:
        """Predictions for the whole side, after its last bag."""
        if self.waiting:
            self._forward()
        if self.cox:  # the loss of all slides together, as each known one's share of it
            of_side = self.cox.of_batch(self.logits, self.side.targets, self.side.known)
            self.losses += (of_side.losses * self.side.known).sum(dim=-1)
        return Predictions(self.losses.cpu(), self.logits.cpu().numpy(), sigmoids(self.logits), self.seconds)

    def _forward(self) -> None:
        """Take the waiting bags through the model."""
        with self.random.in_use():
            self._forward_of_waiting()

    def _forward_of_waiting(self) -> None:
        begun = perf_counter()
        slides, bags = [bag.index for bag in self.waiting], [bag.patches for bag in self.waiting]
        self.waiting = []
        at_once, _ = self.memory.affordable(sum(map(len, bags)))
        with torch.no_grad(), self.bag_guard.lent(bags):
            losses, logits = self.weights.losses_and_logits(
                bags, self.targets[:, slides], self.side.known[:, slides], at_once=at_once
            )
        self.losses[:, slides], self.logits[:, slides] = losses.to(self.losses), logits.to(self.logits)
        if losses.device.type == "cuda":
            torch.cuda.synchronize(losses.device)
        self.seconds[slides] = (perf_counter() - begun) / len(slides) / len(self.losses)
