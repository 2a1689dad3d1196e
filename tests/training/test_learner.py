"""Learner: trials trained together end where each would have ended alone, whatever happens to their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints_for_tests import bits
from endpoints_for_tests import BINARY, SCORE, learner_of
from models_for_tests import Tiny
from stacks_for_tests import (
    N_MEMBERS,
    OURS,
    RECIPES,
    SLIDES,
    WIDTH,
    InMemory,
    in_float32,
    learner,
    losses,
    model_of,
    of_own_rates,
    probabilities,
    trained,
)
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from milbench.models import BagOutput
from milbench.registry import load_models
from milbench.training.learner import Learner
from milbench.trials.recipe import Recipe

OF_ALL = ("five bags per step",)
"""Recipes that the quick suite tries with every model; it tries all of them with the study's nine."""


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        pytest.param(name, recipe, marks=[] if recipe in OF_ALL or load_models()[name].info.study else pytest.mark.slow)
        for name in OURS
        for recipe in RECIPES
    ],
)
def test_a_stacked_trial_and_the_same_trial_alone_agree_dropout_included(name: str, recipe: str) -> None:
    start, chosen = model_of(name), RECIPES[recipe]
    together, *_ = trained(learner(range(N_MEMBERS), start, chosen))
    predicted = probabilities(together, range(N_MEMBERS))
    for member in range(N_MEMBERS):
        (alone,) = trained(learner([member], start, chosen))
        ours, own = together.progress[member], alone.progress[0]
        assert ours.epoch == own.epoch
        np.testing.assert_allclose(losses(ours), losses(own), rtol=1e-6)
        np.testing.assert_allclose(predicted[member], probabilities(alone, [member])[0], atol=1e-6)
    assert np.abs(predicted[0] - predicted[1]).max() > 1e-4, "the members learnt different labels"


USUAL = Recipe(lr=0.02, epochs=2, bags_per_step=2, weight_decay=0.1)
SETTINGS = {
    "few patches": {"bag_patches": 5},
    "smoothed": {"label_smoothing": 0.2},
    "warm-up": {"warmup": 1.5},
    "adamw": {"optimizer": "adamw"},
}


@pytest.mark.parametrize("name", ["amil", "dtfd_mil"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_a_stacked_trial_and_the_same_trial_alone_agree_under_every_setting(
    name: str, settings: dict[str, Any]
) -> None:
    start, recipe = model_of(name), replace(USUAL, **settings)
    together, usual = trained(learner(range(2), start, recipe), learner(range(2), start, USUAL))
    predicted = probabilities(together, range(2))
    assert np.abs(predicted - probabilities(usual, range(2))).max() > 1e-6, "the setting does something"
    for member in range(2):
        (alone,) = trained(learner([member], start, recipe))
        np.testing.assert_allclose(losses(together.progress[member]), losses(alone.progress[0]), rtol=1e-6)
        np.testing.assert_allclose(predicted[member], probabilities(alone, [member])[0], atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_the_rate_rises_by_the_step_to_what_the_schedule_says(warmup: float) -> None:
    recipe = Recipe(lr=0.02, epochs=3, bags_per_step=2, warmup=warmup)
    each, rates = learner([0], model_of("amil"), recipe), []
    each.optimizer.register_step_post_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    trained(each)
    assert len(rates) == 3 * 5, "nine bags are five steps"
    of_schedule = [0.02 * recipe.lr_factor(step // 5) for step in range(15)]
    rise = [min(1.0, (step + 1) / 7.5) if warmup else 1.0 for step in range(15)]
    np.testing.assert_allclose(rates, np.multiply(of_schedule, rise), rtol=1e-12)
    assert [row.lr for row in each.progress[0].history] == [rates[4], rates[9], rates[14]]
    assert warmup or rates == of_schedule, "without warm-up, to the bit"


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

    def end(members: Sequence[int]) -> Learner:
        each = learner(members, start, recipe, precision="bf16")
        each.train, each.validation = in_float32(each.train), in_float32(each.validation)
        trained(each, features=features)
        assert each.error is None, each.error
        return each

    together = end(range(2))
    for member in range(2):
        alone = end([member])
        np.testing.assert_allclose(losses(together.progress[member]), losses(alone.progress[0]), rtol=0.05)


def test_a_loss_that_leaves_smoothing_out_is_refused_by_name() -> None:
    class OwnLoss(Tiny):
        def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
            return (binary_cross_entropy_with_logits(output.logits, targets, reduction="none") * known).sum()

    smooth, usual = (
        trained(learner(range(2), OwnLoss(WIDTH, 1).double(), replace(USUAL, label_smoothing=amount)))[0]
        for amount in (0.1, 0.0)
    )
    assert "OwnLoss has a loss of its own that leaves trainer.label_smoothing out" in str(smooth.error)
    assert usual.error is None


def test_a_trial_that_diverges_leaves_the_stack_and_the_others_end_as_without_it() -> None:
    start, recipe = model_of("amil"), Recipe(lr=0.02, epochs=3)
    broken = learner(range(N_MEMBERS), start, recipe)
    broken.train.targets[1] = torch.inf
    together, plain = trained(broken, learner(range(N_MEMBERS), start, recipe))
    assert [bool(progress.failure) for progress in together.progress] == [False, True, False]
    assert "became inf in epoch 1" in together.progress[1].failure or "nan" in together.progress[1].failure
    kept = probabilities(together, range(N_MEMBERS))[[0, 2]]
    np.testing.assert_allclose(kept, probabilities(plain, range(N_MEMBERS))[[0, 2]], atol=1e-6)


def test_a_trial_that_runs_out_of_patience_stops_alone() -> None:
    recipe = Recipe(lr=0.02, epochs=12, patience=1)
    start = model_of("amil")
    together, *alone = trained(
        learner(range(N_MEMBERS), start, recipe), *(learner([i], start, recipe) for i in range(N_MEMBERS))
    )
    lengths = [len(progress.history) for progress in together.progress]
    assert lengths == [len(each.progress[0].history) for each in alone]
    assert len(set(lengths)) > 1, "the case must show trials of different lengths"
    for member, each in enumerate(alone):
        np.testing.assert_allclose(
            probabilities(together, range(N_MEMBERS))[member], probabilities(each, [member])[0], atol=1e-6
        )


OF_RATES = {
    "clipped": Recipe(epochs=3, bags_per_step=2, clip_norm=0.05, warmup=1.5),
    "adamw": Recipe(epochs=3, optimizer="adamw", decay_vectors=False, schedule="constant"),
    "out of patience": Recipe(epochs=8, patience=1, select_by="val_loss"),
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("amil", "clipped"), ("mmoe_amil", "clipped"), ("dtfd_mil", "adamw"), ("amil", "out of patience")],
)
def test_trials_with_rates_of_their_own_end_where_each_ends_alone(name: str, settings: str) -> None:
    start, recipes = model_of(name), of_own_rates(OF_RATES[settings])
    together, usual = trained(
        learner(range(N_MEMBERS), start, recipes[0], recipes=recipes), learner(range(N_MEMBERS), start, recipes[0])
    )
    predicted = probabilities(together, range(N_MEMBERS))
    for member, recipe in enumerate(recipes):
        (alone,) = trained(learner([member], start, recipe))
        ours, own = together.progress[member], alone.progress[0]
        assert [row.lr for row in ours.history] == [row.lr for row in own.history]
        assert ours.epoch == own.epoch
        np.testing.assert_allclose(losses(ours), losses(own), rtol=1e-6)
        np.testing.assert_allclose(predicted[member], probabilities(alone, [member])[0], atol=1e-6)
    assert np.abs(predicted[1:] - probabilities(usual, range(N_MEMBERS))[1:]).max() > 1e-4, "rates do something"
    lengths = {len(progress.history) for progress in together.progress}
    assert (len(lengths) > 1) == (settings == "out of patience")


def test_a_rate_that_diverges_leaves_the_stack_and_its_neighbours_end_as_without_it() -> None:
    start, recipes = model_of("amil"), of_own_rates(Recipe(epochs=3))
    wild = [recipes[0], replace(recipes[1], optimizer="adam", lr=1e300), recipes[2]]
    together, plain = trained(
        learner(range(N_MEMBERS), start, wild[0], recipes=wild),
        learner(range(N_MEMBERS), start, recipes[0], recipes=recipes),
    )
    assert [bool(progress.failure) for progress in together.progress] == [False, True, False]
    kept = probabilities(together, range(N_MEMBERS))[[0, 2]]
    np.testing.assert_allclose(kept, probabilities(plain, range(N_MEMBERS))[[0, 2]], atol=1e-6)


@pytest.mark.parametrize("rule", ["uncertainty", "dwa"])
def test_weights_of_tasks_move_at_each_trials_own_rate(rule: str) -> None:
    endpoints, recipes = (BINARY, SCORE), of_own_rates(Recipe(epochs=3, bags_per_step=2, task_weights=rule))
    (together,) = trained(learner_of(endpoints, range(N_MEMBERS), recipes[0], recipes=recipes))
    assert together.error is None, together.error
    for member, recipe in enumerate(recipes):
        (alone,) = trained(learner_of(endpoints, [member], recipe))
        np.testing.assert_allclose(together.progress[member].task_weights, alone.progress[0].task_weights, rtol=1e-6)


def test_trials_of_equal_rates_take_the_usual_path_to_the_bit() -> None:
    start, recipe = model_of("amil"), Recipe(lr=0.02, epochs=2)
    one, other = trained(
        learner(range(2), start, recipe), learner(range(2), start, recipe, recipes=[recipe, replace(recipe)])
    )
    assert isinstance(other.optimizer, torch.optim.Adam)
    assert bits(one) == bits(other)


def test_trials_that_differ_in_more_than_rates_are_no_stack() -> None:
    recipe = Recipe(lr=0.02)
    with pytest.raises(ValueError, match="may differ in learning rate and weight decay only"):
        learner(range(2), model_of("amil"), recipe, recipes=[recipe, replace(recipe, clip_norm=1.0)])


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("n_members", [1, N_MEMBERS])
def test_no_two_gradients_share_memory(name: str, n_members: int) -> None:
    """Clipping multiplies them where they are, and the next bags of a step are added to them there."""
    one = learner(range(n_members), model_of(name), RECIPES["five bags per step"])
    bags = [patches for _, patches in InMemory().in_order(SLIDES[:2])]
    shape = (n_members, 2, model_of(name).n_tasks)
    one.weights.forward_backward(bags, torch.ones(shape), torch.ones(shape), 2, at_once=n_members, recompute=False)
    gradients = [p.grad for p in one.weights.named_parameters().values() if p.grad is not None]
    assert len(gradients) > 1
    places = sorted((each.data_ptr(), each.data_ptr() + each.nbytes) for each in gradients)
    assert all(each.is_contiguous() for each in gradients)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
