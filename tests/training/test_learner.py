"""Stacks: trials trained together end where each would have ended alone, whatever happens to their neighbours."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from models_for_tests import Tiny
from stacks_for_tests import (
    CPU,
    N_MEMBERS,
    N_SLIDES,
    OURS,
    RECIPES,
    SLIDES,
    TRAIN,
    VALIDATION,
    WIDTH,
    AsTheyAre,
    InMemory,
    in_float32,
    labels,
    learner,
    model_of,
    probabilities,
    trained,
)
from torch import Tensor

from milbench.registry import load_models
from milbench.training.activations import ActivationCost
from milbench.training.learner import PATCHES_OF_A_GROUP, Learner, _by_size
from milbench.training.trainer import Seat, predict_all, train
from milbench.trials.recipe import Recipe


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_stacked_trial_and_the_same_trial_alone_agree_dropout_included(name: str, recipe: Recipe) -> None:
    start = model_of(name)
    together, *_ = trained(learner(range(N_MEMBERS), start, recipe))
    said = probabilities(together, range(N_MEMBERS))
    for member in range(N_MEMBERS):
        (alone,) = trained(learner([member], start, recipe))
        ours, own = together.learner.members[member], alone.learner.members[0]
        assert ours.epoch == own.epoch
        np.testing.assert_allclose([row[2:4] for row in ours.history], [row[2:4] for row in own.history], rtol=1e-6)
        np.testing.assert_allclose(said[member], probabilities(alone, [member])[0], atol=1e-6)
    assert np.abs(said[0] - said[1]).max() > 1e-4, "the members learnt different labels"


@pytest.mark.parametrize("name", OURS)
def test_a_stack_in_bf16_ends_near_where_each_trial_ends_alone(name: str) -> None:
    """On bags beyond the sizes whose convolutions are written as products."""
    cls = load_models()[name]
    torch.manual_seed(2)
    small = {"hidden": 64} if "hidden" in (cls.__init__.__kwdefaults__ or {}) else {}
    start = cls(WIDTH, 4 if cls.info.tasks == "multi" else 1, **small)
    features = InMemory()
    features.bags = {slide: torch.randn(100, WIDTH) for slide in SLIDES}
    recipe = Recipe(lr=1e-3, epochs=1)

    def end(members: Sequence[int]) -> Seat:
        each = learner(members, start, recipe, precision="bf16")
        each.train, each.validation = in_float32(each.train), in_float32(each.validation)
        (seat,) = trained(each, features=features)
        assert seat.crash is None, seat.crash
        return seat

    together = end(range(2))
    for member in range(2):
        alone = end([member])
        losses = [each.learner.members[i].history[0][2:4] for each, i in ((together, member), (alone, 0))]
        np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


@pytest.mark.parametrize("name", ["amil", "transmil", "m4", "max_pooling"])
@pytest.mark.parametrize("budget", [1, 2_000_000], ids=["recomputed one by one", "in parts"])
def test_a_step_made_smaller_for_want_of_memory_learns_the_same(name: str, budget: int) -> None:
    start, recipe = model_of(name), Recipe(lr=0.02, epochs=2)
    plain, small = trained(
        learner(range(N_MEMBERS), start, recipe),
        learner(range(N_MEMBERS), start, recipe, cost=ActivationCost(0, 50_000), budget_bytes=budget),
    )
    assert plain.learner.shortage == ""
    assert "for the memory budget" in small.learner.shortage
    np.testing.assert_allclose(
        probabilities(small, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6
    )


def test_bags_that_do_not_fit_together_go_one_by_one() -> None:
    """Without dropout, whose masks are drawn for all bags of a group at once."""
    start, recipe = (
        load_models()["amil"](WIDTH, 1, hidden=8, attention=4, dropout=0.0).double(),
        Recipe(lr=0.02, epochs=2),
    )
    recipe = replace(recipe, bags_per_step=4)
    plain, small = trained(
        learner(range(N_MEMBERS), start, recipe),
        learner(range(N_MEMBERS), start, recipe, cost=ActivationCost(0, 1000), budget_bytes=16_000),
    )
    np.testing.assert_allclose(
        probabilities(small, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6
    )


def test_a_step_that_runs_out_of_memory_is_tried_again_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    start, recipe = model_of("amil"), Recipe(lr=0.02, epochs=2)
    (plain,) = trained(learner(range(N_MEMBERS), start, recipe))
    tight = learner(range(N_MEMBERS), start, recipe)
    real = type(tight.weights).backward

    def full(self: object, bags: list[Tensor], *args: object, at_once: int, recompute: bool) -> Tensor:
        losses = real(self, bags, *args, at_once=at_once, recompute=recompute)  # type: ignore[arg-type]
        if at_once > 1 and len(bags[0]) > 9:  # after the gradients are there: what is left of them must not count
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return losses

    monkeypatch.setattr(type(tight.weights), "backward", full)
    (seat,) = trained(tight)
    monkeypatch.undo()
    assert seat.crash is None
    assert seat.learner.shortage == "1 trials at once, after memory ran out at 13 patches"
    np.testing.assert_allclose(probabilities(seat, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6)


def test_a_trial_that_diverges_leaves_the_stack_and_the_others_end_as_without_it() -> None:
    start, recipe = model_of("amil"), Recipe(lr=0.02, epochs=3)
    broken = learner(range(N_MEMBERS), start, recipe)
    broken.train.targets[1] = torch.inf
    together, plain = trained(broken, learner(range(N_MEMBERS), start, recipe))
    assert [bool(member.failure) for member in together.learner.members] == [False, True, False]
    assert (
        "became inf in epoch 1" in together.learner.members[1].failure or "nan" in together.learner.members[1].failure
    )
    kept = probabilities(together, range(N_MEMBERS))[[0, 2]]
    np.testing.assert_allclose(kept, probabilities(plain, range(N_MEMBERS))[[0, 2]], atol=1e-6)


def test_a_trial_that_runs_out_of_patience_stops_alone() -> None:
    recipe = Recipe(lr=0.02, epochs=12, patience=1)
    start = model_of("amil")
    together, *alone = trained(
        learner(range(N_MEMBERS), start, recipe), *(learner([i], start, recipe) for i in range(N_MEMBERS))
    )
    lengths = [len(member.history) for member in together.learner.members]
    assert lengths == [len(seat.learner.members[0].history) for seat in alone]
    assert len(set(lengths)) > 1, "the case must show trials of different lengths"
    for member, seat in enumerate(alone):
        np.testing.assert_allclose(
            probabilities(together, range(N_MEMBERS))[member], probabilities(seat, [member])[0], atol=1e-6
        )


def test_every_bag_is_served_once_an_epoch_however_many_learners_want_it() -> None:
    features, recipe = InMemory(), Recipe(epochs=2)
    start = model_of("mean_pooling")
    trained(learner([0, 1], start, recipe), learner([2], start, recipe), features=features)
    assert len(features.served) == 2 * N_SLIDES
    assert sorted(features.served[: len(TRAIN)]) == sorted(TRAIN)
    assert features.served[: len(TRAIN)] != features.served[N_SLIDES : N_SLIDES + len(TRAIN)], "a new order each epoch"


def test_the_order_of_bags_does_not_depend_on_what_is_trained_beside() -> None:
    class Remembers(Learner):
        def take(self, slide_id: str, features: Tensor) -> None:
            seen.append(slide_id)
            super().take(slide_id, features)

    def order(*others: Learner) -> list[str]:
        seen.clear()
        start = model_of("mean_pooling")
        side = labels([0], TRAIN[2:7], 1)
        mine = Remembers([start], Recipe(epochs=2), side, labels([0], VALIDATION, 1), seed=7, device=CPU)
        trained(mine, *others)
        return list(seen)

    seen: list[str] = []
    assert order() == order(learner([0, 1], model_of("amil"), Recipe(epochs=1)))


def test_a_model_that_raises_takes_no_neighbour_with_it() -> None:
    class Raises(Tiny):
        def forward(self, features: Tensor) -> object:  # type: ignore[override]
            raise ValueError("on purpose")

    recipe = replace(RECIPES["one bag a step"], epochs=2)
    bad, good = trained(learner([0, 1], Raises(WIDTH, 1).double(), recipe), learner([0], model_of("amil"), recipe))
    assert isinstance(bad.crash, ValueError)
    assert good.crash is None
    assert len(good.learner.members[0].history) == 2


def test_predictions_do_not_depend_on_who_else_looks() -> None:
    """Two learners whose sides overlap in another order: each sees its bags in the cohort's, next to the same ones."""
    first, second = (Seat(learner([0], model_of("amil"), RECIPES["one bag a step"]), AsTheyAre()) for _ in range(2))
    train([first, second], SLIDES, InMemory(), seed=7)
    n_tasks = first.learner.models[0].n_tasks
    sides = [
        labels([0], tuple(SLIDES[i] for i in places), n_tasks) for places in ((7, 8, 9, 12), (0, 1, 3, 4, 7, 8, 9))
    ]
    alone = [
        predict_all([seat], [side], SLIDES, InMemory())[0] for seat, side in zip((first, second), sides, strict=True)
    ]
    together = predict_all([first, second], sides, SLIDES, InMemory())
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
    (seat,) = trained(learner([0], Raises(WIDTH, 1).double(), RECIPES["one bag a step"]))
    assert isinstance(seat.crash, RuntimeError)
    assert kept[0]() is None


def test_bags_of_a_step_are_put_together_by_their_sizes_whatever_the_memory() -> None:
    """Bags that are divided draw other dropout masks than together."""
    sizes = [PATCHES_OF_A_GROUP // 2] * 4 + [PATCHES_OF_A_GROUP + 1] * 2
    groups = _by_size([(i, torch.empty(n, 1)) for i, n in enumerate(sizes)])
    assert [[place for place, _ in group] for group in groups] == [[0, 1], [2, 3], [4], [5]]
