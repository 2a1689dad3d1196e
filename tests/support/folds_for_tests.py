"""Learners of five folds over bags in memory: each slide is on the training side of three of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from endpoints_for_tests import side
from stacks_for_tests import CPU, SLIDES, AsTheyAre, InMemory, labels, losses

from milbench.cohorts.scaling import FeatureScaler
from milbench.endpoints.fitted import FittedEndpoint
from milbench.models import MILModel
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.trainer import predict_all, train
from milbench.trials.recipe import Recipe

N_FOLDS = 5


def slides_of(fold: int, role: str) -> tuple[str, ...]:
    """Every fifth slide is for validation, every fifth for testing."""
    places = {"train": {2, 3, 4}, "val": {0}, "test": {1}}[role]
    return tuple(slide for number, slide in enumerate(SLIDES) if (number - fold) % N_FOLDS in places)


def learner_of_fold(
    fold: int,
    start: MILModel,
    recipe: Recipe,
    *,
    endpoints: Sequence[FittedEndpoint] = (),
    scaler: FeatureScaler | None = None,
    device: torch.device = CPU,
    **more: object,
) -> Learner:
    """A trial of one fold. Without endpoints, all tasks are binary."""
    train_side, val_side = (
        side([0], slides_of(fold, role), endpoints) if endpoints else labels([0], slides_of(fold, role), start.n_tasks)
        for role in ("train", "val")
    )
    return Learner(
        [copy.deepcopy(start)],
        recipe,
        train_side,
        val_side,
        seed=7,
        device=device,
        scaler=scaler or AsTheyAre(),
        **more,
    )


def learners_of(
    start: MILModel, recipe: Recipe, folds: Sequence[int] = range(N_FOLDS), **more: object
) -> list[Learner]:
    return [learner_of_fold(fold, start, recipe, **more) for fold in folds]


def together(
    learners: Sequence[Learner], *, features: InMemory | None = None, after_epoch: Callable[[], None] = lambda: None
) -> FoldStack:
    """The learners' stack, after they were trained as one."""
    stack = FoldStack(learners)
    train(learners, SLIDES, features or InMemory(), seed=7, stacks=[stack], after_epoch=after_epoch)
    return stack


def alone(learners: Sequence[Learner]) -> Sequence[Learner]:
    """The learners, after each was trained by itself."""
    for learner in learners:
        train([learner], SLIDES, InMemory(), seed=7)
    return learners


def assert_learned_the_same(one: Sequence[Learner], other: Sequence[Learner], *, atol: float = 1e-9) -> None:
    """Losses of all epochs, choices, draws and predictions."""
    for each in (*one, *other):
        assert each.error is None, each.error
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(losses(a.progress[0]), losses(b.progress[0]), atol=atol)
        assert (a.progress[0].epoch, a.progress[0].failure) == (b.progress[0].epoch, b.progress[0].failure)
        assert a.random.uses == b.random.uses
        assert all(map(torch.equal, a.random.states, b.random.states))
    of_one, of_other = (_predicted(each) for each in (one, other))
    for p, q in zip(of_one, of_other, strict=True):
        np.testing.assert_allclose(p, q, atol=atol)


def _predicted(learners: Sequence[Learner]) -> list[np.ndarray]:
    sides = [labels([0], SLIDES, learner.models[0].n_tasks) for learner in learners]
    said = predict_all(learners, sides, SLIDES, InMemory())
    assert None not in said
    return [predictions.logits for predictions in said if predictions is not None]
