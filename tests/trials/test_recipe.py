"""Recipes: the study's numbers, precedence, and refusals."""

import math

import pytest
from models_for_tests import Tiny

from milbench.errors import UsageError
from milbench.trials.recipe import Recipe, recipe_for


def test_the_studys_cosine_starts_at_one_and_ends_at_the_stated_factor() -> None:
    recipe = Recipe()
    factors = [recipe.lr_factor(epoch) for epoch in range(recipe.epochs)]
    assert factors[0] == 1.0
    assert round(factors[-1], 4) == 0.1022
    assert factors[16] == pytest.approx((1 + math.cos(math.pi / 2)) / 2 * 0.9 + 0.1)


def test_multistep_drops_at_its_milestones_only() -> None:
    recipe = Recipe(schedule="multistep", milestones=(2, 4), gamma=0.2)
    assert [round(recipe.lr_factor(epoch), 3) for epoch in range(6)] == [1, 1, 0.2, 0.2, 0.04, 0.04]


def test_warm_up_rises_by_the_step_and_ends_at_one() -> None:
    recipe = Recipe(warmup=0.5)
    assert [recipe.warmup_factor(step, 10) for step in range(7)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0]
    assert {Recipe().warmup_factor(step, 10) for step in range(7)} == {1.0}


def test_the_users_settings_win_over_the_cohorts_and_those_over_the_protocol() -> None:
    recipe = recipe_for(Tiny, "m4", {"lr": 1e-3, "epochs": 5}, {"epochs": 7})
    assert (recipe.lr, recipe.epochs, recipe.weight_decay) == (1e-3, 7, 4e-5)


def test_the_official_protocol_ignores_what_the_cohort_prefers() -> None:
    recipe = recipe_for(Tiny, "official", {"lr": 1e-3}, {})
    assert (recipe.name, recipe.lr, recipe.epochs) == ("official", 0.1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": 0}, "above 0"),
        ({"epochs": 2.5}, "type int"),
        ({"epochs": True}, "type int"),
        ({"lr": "fast"}, "type float"),
        ({"weight_decay": -1}, "at least 0"),
        ({"bag_patches": -3}, "trainer.bag_patches is -3; it must be above 0"),
        ({"bag_patches": 0}, "trainer.bag_patches is 0; it must be above 0"),
        ({"bag_patches": 20.5}, "trainer.bag_patches is 20.5; expected a value of type int"),
        ({"label_smoothing": 1}, "trainer.label_smoothing is 1.0; it must be below 1"),
        ({"label_smoothing": -0.1}, "trainer.label_smoothing is -0.1; it must be at least 0"),
        ({"warmup": -1}, "trainer.warmup is -1.0; it must be at least 0"),
        ({"warmup": 33}, "trainer.warmup is 33 epochs, and training takes 32"),
        ({"sampler": "balance"}, "unknown trainer.sampler 'balance'. Did you mean 'balanced'"),
        ({"optimizer": "adammw"}, "Did you mean 'adamw'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe_for(Tiny, "m4", {}, settings)


def test_selection_may_wait_for_a_fraction_of_the_epochs() -> None:
    recipe = Recipe(epochs=200, select_after=0.8)
    assert not recipe.can_select(160)
    assert recipe.can_select(161)
