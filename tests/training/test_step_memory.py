"""Step memory: steps that are made smaller to fit into memory learn the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stacks_for_tests import CPU, N_MEMBERS, WIDTH, alike, learner, model_of, of_own_rates, probabilities, trained
from torch import Tensor

from milbench.registry import load_models
from milbench.training.activations import ActivationCost
from milbench.training.step_memory import StepMemory
from milbench.trials.recipe import Recipe


@pytest.mark.parametrize("name", ["amil", "transmil", "m4", "max_pooling"])
@pytest.mark.parametrize("budget", [1, 2_000_000], ids=["recomputed one by one", "in parts"])
def test_a_step_made_smaller_for_want_of_memory_learns_the_same(name: str, budget: int) -> None:
    start, recipe = model_of(name), Recipe(lr=0.02, epochs=2)
    plain, small = trained(
        learner(range(N_MEMBERS), start, recipe),
        learner(range(N_MEMBERS), start, recipe, cost=alike(ActivationCost(0, 50_000)), budget_bytes=budget),
    )
    assert plain.step_memory.shortage == ""
    assert "for the memory budget" in small.step_memory.shortage
    np.testing.assert_allclose(
        probabilities(small, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6
    )


def test_bags_that_do_not_fit_together_go_one_by_one() -> None:
    """Without dropout, whose masks are drawn for all bags of a group at once."""
    start = load_models()["amil"](WIDTH, 1, hidden=8, attention=4, dropout=0.0).double()
    recipe = Recipe(lr=0.02, epochs=2, bags_per_step=4)
    plain, small = trained(
        learner(range(N_MEMBERS), start, recipe),
        learner(range(N_MEMBERS), start, recipe, cost=alike(ActivationCost(0, 1000)), budget_bytes=16_000),
    )
    np.testing.assert_allclose(
        probabilities(small, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6
    )


def test_a_step_that_runs_out_of_memory_is_tried_again_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    start, recipe = model_of("amil"), Recipe(lr=0.02, epochs=2)
    (plain,) = trained(learner(range(N_MEMBERS), start, recipe))
    tight = learner(range(N_MEMBERS), start, recipe)
    real = type(tight.weights).forward_backward

    def full(self: object, bags: list[Tensor], *args: object, at_once: int, recompute: bool) -> Tensor:
        losses = real(self, bags, *args, at_once=at_once, recompute=recompute)  # type: ignore[arg-type]
        if at_once > 1 and len(bags[0]) > 9:  # after the gradients are there: what is left of them must not count
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        return losses

    monkeypatch.setattr(type(tight.weights), "forward_backward", full)
    trained(tight)
    monkeypatch.undo()
    assert tight.error is None
    assert tight.step_memory.shortage == "1 trials at once, after memory ran out at 13 patches"
    np.testing.assert_allclose(
        probabilities(tight, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6
    )


def test_trials_with_rates_of_their_own_learn_the_same_after_memory_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    start, recipes = model_of("amil"), of_own_rates(Recipe(epochs=2))
    plain, tight = (learner(range(N_MEMBERS), start, recipes[0], recipes=recipes) for _ in range(2))
    trained(plain)
    real = type(tight.weights).forward_backward

    def full(self: object, bags: list[Tensor], *args: object, at_once: int, recompute: bool) -> Tensor:
        losses = real(self, bags, *args, at_once=at_once, recompute=recompute)  # type: ignore[arg-type]
        if not recompute:
            raise torch.OutOfMemoryError("full")
        return losses

    monkeypatch.setattr(type(tight.weights), "forward_backward", full)
    trained(tight)
    monkeypatch.undo()
    assert tight.step_memory.must_recompute
    np.testing.assert_allclose(
        probabilities(tight, range(N_MEMBERS)), probabilities(plain, range(N_MEMBERS)), atol=1e-6
    )


def test_trials_that_go_together_are_halved_until_one_is_left_which_recomputes() -> None:
    memory = StepMemory(5, CPU)
    plans = [memory.affordable(900)]
    for _ in range(3):
        memory.shrink(900)
        plans.append(memory.affordable(900))
    assert plans == [(5, False), (2, False), (1, False), (1, True)]
    assert memory.shortage == "2 trials at once, after memory ran out at 900 patches", (
        "the first shortage is the one told"
    )


def test_trials_that_left_take_no_memory() -> None:
    memory = StepMemory(4, CPU, cost=alike(ActivationCost(0, 10)), budget_bytes=2000)
    assert memory.affordable(100) == (2, False)
    memory.n_trials = 1
    assert memory.affordable(100) == (1, False)
    assert memory.affordable(300) == (1, True)
