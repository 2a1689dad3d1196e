"""When trials are stacked: the same choice in every run, from sizes alone."""

from __future__ import annotations

import pytest

from milbench.training.stacking import fold_stacking_pays, stacking_pays

DIGITS = {"patches_of_a_step": 16 * 36, "in_features": 64, "hyperparameters": {"hidden": 64}}
SLIDES = {"patches_of_a_step": 2000, "in_features": 2048, "hyperparameters": {"hidden": 512}}
FEW_PATCHES_WIDE = {"patches_of_a_step": 4, "in_features": 2048, "hyperparameters": {"hidden": 512}}


def pays(sizes: dict, *, n_members: int = 10, on_gpu: bool = False) -> bool:
    return stacking_pays(**sizes, n_members=n_members, on_gpu=on_gpu)


def test_many_small_bags_are_stacked_on_a_cpu_and_large_or_wide_ones_are_not() -> None:
    assert pays(DIGITS)
    assert not pays(SLIDES)
    assert not pays(FEW_PATCHES_WIDE), "the optimiser's memory traffic is the floor there"


def test_everything_is_stacked_on_a_gpu() -> None:
    assert pays(SLIDES, on_gpu=True)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_single_trial_is_no_stack(on_gpu: bool) -> None:
    assert not pays(DIGITS, n_members=1, on_gpu=on_gpu)


def test_a_model_without_an_argument_for_its_width_counts_as_wide() -> None:
    assert not pays({**FEW_PATCHES_WIDE, "hyperparameters": {}})
    assert not pays({**DIGITS, "hyperparameters": {"hidden": "auto"}})


def test_tasks_fill_a_gpu_without_limit_and_configurations_up_to_one() -> None:
    assert pays(SLIDES, n_members=500, on_gpu=True)
    for n_members, is_stack in ((80, True), (500, False)):
        assert stacking_pays(**SLIDES, n_members=n_members, on_gpu=True, n_configurations=8) == is_stack


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"n_members": 3}, False),
        ({"bags_per_step": 1}, False),
        ({"are_equal": False}, False),
        ({"on_gpu": True}, False),
        ({"patches_of_a_step": 16 * 100}, False),
    ],
)
def test_folds_are_stacked_on_a_cpu_if_steps_are_of_several_small_equal_bags(change: dict, expected: bool) -> None:
    usual = {**DIGITS, "n_members": 5, "bags_per_step": 16, "are_equal": True, "on_gpu": False}
    assert fold_stacking_pays(**{**usual, **change}) == expected
