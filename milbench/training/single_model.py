"""Single model: fit, evaluate and predict with one model and bags in memory, through the trainer's loop.

Train a model, then ask it for the probabilities [S, T] of other slides::

    fit(model, Recipe(epochs=12), train_bags, validation_bags, seed=1, device=device)
    probabilities = predict(model, test_bags, device=device).probabilities
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.errors import MilbenchError
from milbench.layout import Layout, Patches
from milbench.models import MILModel
from milbench.process.generators import generators_left_as_they_were
from milbench.training.bag_guard import BagGuard
from milbench.training.evaluation import Evaluation
from milbench.training.learner import Learner
from milbench.training.randomness import Randomness
from milbench.training.selection import Epoch
from milbench.training.side import Side
from milbench.training.step_memory import StepMemory
from milbench.training.trainer import train
from milbench.training.weights import OneModel
from milbench.trials.recipe import Recipe


class Bags(NamedTuple):
    """Slides in memory.

    Attributes
    ----------
    features : sequence of Tensor [N, D]; an item may be read from disk when it is asked for.
    targets : float32 Tensor [S, T] in {0, 1}, 0 where unknown.
    known : float32 Tensor [S, T], 1 where the label is known.
    layouts : of the same slides, with neighbours int32; None = no model needs them.
    """

    features: Sequence[Tensor]
    targets: Tensor
    known: Tensor
    layouts: Sequence[Layout] | None = None

    def labels(self) -> NDArray[np.float64]:
        """Targets [S, T] with NaN where unknown."""
        return _side("", self).labels()


class Fit(NamedTuple):
    """What training leaves behind. The model itself holds the weights of the chosen epoch.

    Attributes
    ----------
    chosen_epoch : from 0.
    selected_by : the rule that chose it, or why none could.
    history : one row per epoch.
    seconds : wall time of the training alone.
    step_seconds : the part of it that went into optimiser steps, without the validation passes.
    """

    chosen_epoch: int
    selected_by: str
    history: list[Epoch]
    seconds: float
    step_seconds: float


class Prediction(NamedTuple):
    """What a model predicts for S slides.

    Attributes
    ----------
    losses : float32 Tensor [S].
    probabilities : [S, T].
    seconds : [S] wall time of the model alone. Slides that went through together share it evenly.
    """

    losses: Tensor
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]


def fit(model: MILModel, recipe: Recipe, train_on: Bags, validation: Bags, *, seed: int, device: torch.device) -> Fit:
    """Record of training `model` in place by `recipe`. The model is left with the weights of the chosen epoch.

    Raises
    ------
    MilbenchError : the loss is no longer finite.
    """
    train_side, validation_side = _side("train", train_on), _side("val", validation)
    features = _NumberedBags({"train": train_on, "val": validation}, device)
    learner, begun = Learner([model], recipe, train_side, validation_side, seed=seed, device=device), perf_counter()
    train([learner], [*train_side.slide_ids, *validation_side.slide_ids], features, seed=seed)
    if learner.error is not None:
        raise learner.error
    (progress,) = learner.progress
    if progress.failure:
        raise MilbenchError(progress.failure)
    learner.chosen()
    seconds = perf_counter() - begun
    return Fit(progress.epoch, progress.rule(recipe), progress.history, seconds, learner.step_seconds)


def evaluate(model: MILModel, bags: Bags, device: torch.device) -> tuple[float, NDArray[np.float64]]:
    """Mean loss over the slides, and probabilities [S, T]."""
    prediction = predict(model, bags, device=device)
    return float(prediction.losses.double().mean()), prediction.probabilities


def predict(model: MILModel, bags: Bags, *, device: torch.device) -> Prediction:
    """Prediction of `model` for `bags`, in eval mode."""
    side = _side("all", bags).to(device)
    weights = OneModel(model.eval(), "float32", device)
    memory, guard = StepMemory(weights.n_models, device), BagGuard(type(model).__name__)
    evaluation = Evaluation(weights, side, memory, guard, Randomness(0, device))
    with generators_left_as_they_were():
        for slide, patches in _NumberedBags({"all": bags}, device).in_order(side.slide_ids):
            evaluation.add(slide, Patches(patches.features.float(), patches.layout))
        predictions = evaluation.finish()
    return Prediction(predictions.losses[0], predictions.probabilities[0], predictions.seconds)


def _side(name: str, bags: Bags) -> Side:
    slides = tuple(f"{name}/{i}" for i in range(len(bags.features)))
    return Side(slides, bags.targets[None], bags.known[None])


class _NumberedBags:
    """Bags in lists, by names such as "train/3"."""

    def __init__(self, lists: dict[str, Bags], device: torch.device) -> None:
        self.lists, self.device = lists, device

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Patches]]:
        for slide in slide_ids:
            name, number = slide.split("/")
            bags, place = self.lists[name], int(number)
            layout = None if bags.layouts is None else bags.layouts[place]
            yield slide, Patches(bags.features[place], layout).each(lambda tensor: tensor.to(self.device))
