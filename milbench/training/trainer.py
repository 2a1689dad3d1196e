"""The only training loop. It knows no files, and gets no test slide before the epochs are chosen.

A pass trains any number of learners over the same slides: every bag is read, moved and scaled once an epoch, and
every learner that has it in its training side takes it. The order is one random permutation of all slides an
epoch, restricted to each learner's own: uniformly random for each, and the same whatever is trained beside it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.cohorts.scaling import FeatureScaler
from milbench.errors import DataError, MilbenchError
from milbench.models import MILModel
from milbench.training.bag_guard import Untouched
from milbench.training.learner import Learner, Look, Predictions, Side
from milbench.training.selection import Epoch
from milbench.training.weights import OneModel
from milbench.trials.recipe import Recipe


class Features(Protocol):
    """Where bags come from."""

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Slide and features [N, D] of each slide, on the device, in the stored dtype."""
        ...


@dataclass
class Seat:
    """A learner's place in a pass.

    Attributes
    ----------
    scaler : of its fold's training slides.
    crash : what its model raised; it takes no further part.
    """

    learner: Learner
    scaler: FeatureScaler = field(default_factory=lambda: FeatureScaler("none"))
    crash: BaseException | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether it still wants bags."""
        return self.crash is None and not self.learner.is_done


def train(
    seats: Sequence[Seat],
    slide_ids: Sequence[str],
    features: Features,
    *,
    seed: int,
    after_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Train the learners of all seats; what a model raises is kept at its seat and hinders no other.

    Parameters
    ----------
    slide_ids : all slides of the cohort, in its order: what the permutation is drawn over.
    seed : of the permutations.
    after_epoch : called when all learners have booked an epoch; a good moment to write a checkpoint.

    Raises
    ------
    DataError : a bag cannot be read.
    """
    shuffler = torch.Generator().manual_seed(seed)
    n_epochs = max(seat.learner.recipe.epochs for seat in seats)
    for epoch in range(n_epochs):
        # drawn also for epochs that a checkpoint holds: a resumed pass goes on with the same orders
        order = torch.randperm(len(slide_ids), generator=shuffler).tolist()
        active = [seat for seat in seats if seat.is_at_work and seat.learner.epoch == epoch]
        if not active:
            continue
        shuffled = [slide_ids[i] for i in order]
        _each(active, Learner.begin_epoch)
        for seat, slide, bag in _served(active, shuffled, features, lambda learner: learner.place_in_train):
            _guarded(seat, Learner.take, slide, bag)
        _each(active, Learner.begin_validation)
        for seat, slide, bag in _served(active, slide_ids, features, lambda learner: learner.look.place):
            _guarded(seat, Learner.look_at, slide, bag)
        _each(active, Learner.end_epoch)
        after_epoch()


def predict_all(
    seats: Sequence[Seat], sides: Sequence[Side], slide_ids: Sequence[str], features: Features
) -> list[Predictions | None]:
    """What every learner says of its side with the chosen weights, every bag read once; None where a model raised.

    `slide_ids` are all slides of the cohort, in its order: bags come in one order whoever else looks at them.
    """
    for seat, side in zip(seats, sides, strict=True):
        _guarded(seat, Learner.begin_prediction, side)
    active = [seat for seat in seats if seat.crash is None]
    for seat, slide, bag in _served(active, slide_ids, features, lambda learner: learner.look.place):
        _guarded(seat, Learner.look_at, slide, bag)
    said: list[Predictions | None] = []
    for seat in seats:
        _guarded(seat, lambda learner: said.append(learner.look.ended()))
        if seat.crash is not None:
            said.append(None)
    return said


def _served(
    seats: Sequence[Seat],
    slide_ids: Iterable[str],
    features: Features,
    wants: Callable[[Learner], dict[str, int]],
) -> Iterator[tuple[Seat, str, Tensor]]:
    """Seat, slide and scaled float32 features, for every slide that a learner wants, each read and scaled once."""
    wanted = [(seat, wants(seat.learner)) for seat in seats if seat.crash is None]
    needed = [slide for slide in slide_ids if any(slide in places for _, places in wanted)]
    for slide, stored in features.in_order(needed):
        scaled: dict[int, Tensor] = {}
        for seat, places in wanted:
            if slide in places and seat.crash is None:
                if id(seat.scaler) not in scaled:
                    scaled[id(seat.scaler)] = seat.scaler(stored)
                yield seat, slide, scaled[id(seat.scaler)]


def _each(seats: Sequence[Seat], act: Callable[[Learner], None]) -> None:
    for seat in seats:
        _guarded(seat, act)


def _guarded(seat: Seat, act: Callable[..., None], *arguments: Any) -> None:
    """Let the seat's learner act, on its own time; what its model raises ends its part alone."""
    if seat.crash is not None:
        return
    begun = perf_counter()
    try:
        act(seat.learner, *arguments)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model does is a result, not a crash
        traceback.clear_frames(error.__traceback__)  # they hold the activations, for as long as the pass takes
        seat.crash = error
    seat.learner.seconds += perf_counter() - begun


# ---- one model, bags in memory -------------------------------------------------------------------


class Bags(NamedTuple):
    """Slides in memory.

    Attributes
    ----------
    features : sequence of Tensor [N, D]; an item may be read from disk when it is asked for.
    targets : float32 Tensor [S, T] in {0, 1}, 0 where unknown.
    known : float32 Tensor [S, T], 1 where the label is known.
    """

    features: Sequence[Tensor]
    targets: Tensor
    known: Tensor

    def labels(self) -> NDArray[np.float64]:
        """Targets [S, T] with NaN where unknown."""
        return _side("", self).labels()


class Fit(NamedTuple):
    """What training leaves behind; the model itself holds the chosen epoch's weights.

    Attributes
    ----------
    chosen_epoch : from 0.
    selected_by : the rule that chose it, or why none could.
    history : one row an epoch.
    seconds : wall time of the training alone.
    step_seconds : the part of it that went into optimiser steps, without the validation passes.
    """

    chosen_epoch: int
    selected_by: str
    history: list[Epoch]
    seconds: float
    step_seconds: float


class Prediction(NamedTuple):
    """What a model says of S slides.

    Attributes
    ----------
    losses : float32 Tensor [S].
    probabilities : [S, T].
    seconds : [S] wall time of the model alone; slides that went through together share it evenly.
    """

    losses: Tensor
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]


def fit(model: MILModel, recipe: Recipe, train_on: Bags, validation: Bags, *, seed: int, device: torch.device) -> Fit:
    """Train `model` in place by `recipe` and leave it with the weights of the chosen epoch.

    Raises
    ------
    MilbenchError : the loss is no longer finite.
    """
    sides = {"train": _side("train", train_on), "val": _side("val", validation)}
    listed = _Listed({"train": train_on.features, "val": validation.features}, device)
    learner = Learner([model], recipe, sides["train"], sides["val"], seed=seed, device=device)
    seat, begun = Seat(learner), perf_counter()
    train([seat], [*sides["train"].slide_ids, *sides["val"].slide_ids], listed, seed=seed)
    if seat.crash is not None:
        raise seat.crash
    (member,) = learner.members
    if member.failure:
        raise MilbenchError(member.failure)
    learner.chosen()
    seconds = perf_counter() - begun
    return Fit(member.epoch, member.rule(recipe), member.history, seconds, learner.step_seconds)


def evaluate(model: MILModel, bags: Bags, device: torch.device) -> tuple[float, NDArray[np.float64]]:
    """Mean loss over the slides, and probabilities [S, T]."""
    prediction = predict(model, bags, device=device)
    return float(prediction.losses.double().mean()), prediction.probabilities


def predict(model: MILModel, bags: Bags, *, device: torch.device) -> Prediction:
    """What `model` says of `bags`, in eval mode."""
    side = _side("all", bags).to(device)
    look = Look(OneModel(model, "float32", device), side, lambda _: 1, Untouched(type(model).__name__))
    for slide, features in _Listed({"all": bags.features}, device).in_order(side.slide_ids):
        look.at(slide, features.float())
    seen = look.ended()
    return Prediction(seen.losses[0], seen.probabilities[0], seen.seconds)


def _side(name: str, bags: Bags) -> Side:
    slides = tuple(f"{name}/{i}" for i in range(len(bags.features)))
    return Side(slides, bags.targets[None], bags.known[None])


class _Listed:
    """Bags in lists, by names such as "train/3"."""

    def __init__(self, lists: dict[str, Sequence[Tensor]], device: torch.device) -> None:
        self.lists, self.device = lists, device

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for slide in slide_ids:
            name, number = slide.split("/")
            yield slide, self.lists[name][int(number)].to(self.device)
