"""Trainer: every bag is read once for all learners, and no learner changes what another one sees."""

from __future__ import annotations

import weakref
from dataclasses import replace

from models_for_tests import Tiny
from stacks_for_tests import (
    CPU,
    N_SLIDES,
    RECIPES,
    SLIDES,
    TRAIN,
    VALIDATION,
    WIDTH,
    AsTheyAre,
    InMemory,
    labels,
    learner,
    model_of,
    trained,
)
from torch import Tensor

from milbench.layout import Patches
from milbench.training.learner import Learner
from milbench.training.trainer import predict_all, train
from milbench.trials.recipe import Recipe


def test_every_bag_is_served_once_per_epoch_however_many_learners_want_it() -> None:
    features, recipe = InMemory(), Recipe(epochs=2)
    start = model_of("mean_pooling")
    trained(learner([0, 1], start, recipe), learner([2], start, recipe), features=features)
    assert len(features.served) == 2 * N_SLIDES
    assert sorted(features.served[: len(TRAIN)]) == sorted(TRAIN)
    assert features.served[: len(TRAIN)] != features.served[N_SLIDES : N_SLIDES + len(TRAIN)], "a new order each epoch"


def test_the_order_of_bags_does_not_depend_on_what_is_trained_beside() -> None:
    class Remembers(Learner):
        def add(self, slide_id: str, patches: Patches) -> bool:
            seen.append(slide_id)
            return super().add(slide_id, patches)

    def order(*others: Learner) -> list[str]:
        seen.clear()
        start = model_of("mean_pooling")
        sides = labels([0], TRAIN[2:7], 1), labels([0], VALIDATION, 1)
        mine = Remembers([start], Recipe(epochs=2), *sides, seed=7, device=CPU, scaler=AsTheyAre())
        trained(mine, *others)
        return list(seen)

    seen: list[str] = []
    alone = order()
    assert alone == order(learner([0, 1], model_of("amil"), Recipe(epochs=1)))
    assert sorted(alone) == sorted(2 * TRAIN[2:7]), "each of its slides once per epoch, and no other"


def test_a_model_that_raises_takes_no_neighbour_with_it() -> None:
    class Raises(Tiny):
        def forward(self, features: Tensor) -> object:  # type: ignore[override]
            raise ValueError("on purpose")

    recipe = replace(RECIPES["one bag per step"], epochs=2)
    bad, good = trained(learner([0, 1], Raises(WIDTH, 1).double(), recipe), learner([0], model_of("amil"), recipe))
    assert isinstance(bad.error, ValueError)
    assert good.error is None
    assert len(good.progress[0].history) == 2


def test_predictions_do_not_depend_on_which_other_learners_predict() -> None:
    """Two learners whose sides overlap in another order: each sees its bags in the cohort's, next to the same ones."""
    learners = [learner([0], model_of("amil"), RECIPES["one bag per step"]) for _ in range(2)]
    train(learners, SLIDES, InMemory(), seed=7)
    n_tasks = learners[0].models[0].n_tasks
    sides = [
        labels([0], tuple(SLIDES[i] for i in places), n_tasks) for places in ((7, 8, 9, 12), (0, 1, 3, 4, 7, 8, 9))
    ]
    alone = [predict_all([each], [side], SLIDES, InMemory())[0] for each, side in zip(learners, sides, strict=True)]
    together = predict_all(learners, sides, SLIDES, InMemory())
    for one, other in zip(alone, together, strict=True):
        assert one is not None
        assert other is not None
        assert one.probabilities.tobytes() == other.probabilities.tobytes()


def test_what_a_model_held_when_it_raised_is_let_go() -> None:
    class Raises(Tiny):
        def forward(self, features: Tensor) -> object:  # type: ignore[override]
            activations = features.clone()
            kept.append(weakref.ref(activations))
            raise RuntimeError("no")

    kept: list[weakref.ref] = []
    (each,) = trained(learner([0], Raises(WIDTH, 1).double(), RECIPES["one bag per step"]))
    assert isinstance(each.error, RuntimeError)
    assert kept[0]() is None


def test_a_bag_is_scaled_once_for_all_learners_that_share_a_scaler() -> None:
    class Counts(AsTheyAre):
        def __call__(self, features: Tensor) -> Tensor:
            calls.append(self)
            return super().__call__(features)

    calls: list[Counts] = []
    shared, own = Counts(), Counts()
    learners = [learner([i], model_of("mean_pooling"), Recipe(epochs=1)) for i in range(3)]
    for each, scaler in zip(learners, (shared, shared, own), strict=True):
        each.scaler = scaler
    trained(*learners)
    assert calls.count(shared) == calls.count(own) == N_SLIDES


def test_a_learner_whose_model_raised_gives_no_predictions_and_the_others_do() -> None:
    class RaisesWhenAsked(Tiny):
        def forward(self, features: Tensor) -> object:  # type: ignore[override]
            if not self.training and len(features) == 13:
                raise ValueError("on purpose")
            return super().forward(features)

    recipe = replace(RECIPES["one bag per step"], epochs=1)
    learners = learner([0], RaisesWhenAsked(WIDTH, 1).double(), recipe), learner([1], model_of("amil"), recipe)
    train(learners, SLIDES, InMemory(), seed=7)
    side = labels([0], VALIDATION, 1)
    bad, good = predict_all(learners, [side, side], SLIDES, InMemory())
    assert isinstance(learners[0].error, ValueError)
    assert bad is None
    assert good is not None
    assert good.probabilities.shape == (1, len(VALIDATION), 1)
