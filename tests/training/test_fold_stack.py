"""Fold stack: trials of several folds that take their steps together learn what each learns alone."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_for_tests import bits
from endpoints_for_tests import BINARY, CLASSES, COX, SCORE
from folds_for_tests import N_FOLDS, alone, assert_learned_the_same, learner_of_fold, learners_of, slides_of, together
from models_for_tests import Tiny
from stacks_for_tests import OURS, RECIPES, SLIDES, WIDTH, InMemory, Shifted, alike, model_of
from torch import Tensor, nn

from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.engines.checkpoint import load_fold_stack, save_fold_stack
from milbench.errors import DataError, MilbenchError
from milbench.layout import Patches
from milbench.models import BagOutput, MILModel
from milbench.registry import load_models
from milbench.training.activations import ActivationCost
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

MULTI = [name for name in OURS if load_models()[name].info.tasks == "multi"]

SLOW = pytest.mark.slow

SURVIVAL = FittedEndpoint(Endpoint("survival"), "nll", edges=(2.0, 4.0), constant_loss=1.1)


def assert_same_as_alone(start: MILModel, recipe: Recipe, **more: object) -> FoldStack:
    learners = learners_of(start, recipe, **more)
    stack = together(learners)
    assert_learned_the_same(alone(learners_of(start, recipe, **more)), learners)
    return stack


def counted(stack_type: type[FoldStack], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of trials of each step that several trials take together."""
    sizes: list[int] = []
    real = stack_type._stepped_together

    def seen(self: FoldStack, batches: list) -> bool:
        sizes.append(len(batches))
        return real(self, batches)

    monkeypatch.setattr(stack_type, "_stepped_together", seen)
    return sizes


# ---- the same results ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["one bag per step", "five bags per step", *(pytest.param(n, marks=SLOW) for n in ("clipped", "lookahead"))]
)
def test_folds_learn_together_what_they_learn_alone(name: str) -> None:
    assert_same_as_alone(model_of("mmoe_amil", dropout=0.3, tower_dropout=0.2), RECIPES[name])


@SLOW
@pytest.mark.parametrize("recipe", ["one bag per step", "five bags per step"])
@pytest.mark.parametrize("name", MULTI)
def test_every_model_of_several_tasks_learns_the_same(name: str, recipe: str) -> None:
    assert_same_as_alone(model_of(name), replace(RECIPES[recipe], epochs=2))


@pytest.mark.parametrize("name", ["dsmil", *(pytest.param(n, marks=SLOW) for n in ("dtfd_mil", "acmil"))])
def test_models_of_one_task_that_draw_in_ways_of_their_own_learn_the_same(name: str) -> None:
    assert_same_as_alone(model_of(name, patch_dropout=0.4), replace(RECIPES["one bag per step"], epochs=2))


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.02, epochs=2, bags_per_step=2, sampler="balanced", bag_patches=5),
        pytest.param(Recipe(lr=0.02, epochs=2, bag_patches=7, label_smoothing=0.2, warmup=1.5), marks=SLOW),
        pytest.param(Recipe(lr=0.02, epochs=3, bags_per_step=2, task_weights="dwa"), marks=SLOW),
        Recipe(lr=0.02, epochs=2, task_weights="uncertainty", optimizer="adamw", clip_norm=0.05),
    ],
    ids=["balanced", "drawn patches", "dwa", "uncertainty"],
)
def test_every_setting_that_changes_steps_holds_for_folds(recipe: Recipe) -> None:
    assert_same_as_alone(model_of("shared_bottom_amil", dropout=0.2), recipe)


@pytest.mark.parametrize("n_bags", [pytest.param(1, marks=SLOW), 3])
def test_tasks_of_several_kinds_learn_the_same(n_bags: int) -> None:
    endpoints = (BINARY, CLASSES, SCORE, SURVIVAL)
    torch.manual_seed(3)
    start = load_models()["mmoe_amil"](WIDTH, Outputs(endpoints), hidden=8, attention=4, experts=2, tower=4).double()
    assert_same_as_alone(start, Recipe(lr=0.02, epochs=2, bags_per_step=n_bags), endpoints=endpoints)


def test_folds_whose_bags_are_scaled_differently_learn_the_same() -> None:
    start, recipe = model_of("shared_bottom_amil", dropout=0.2), Recipe(lr=0.02, epochs=2)

    def learners() -> list[Learner]:
        return [learner_of_fold(fold, start, recipe, scaler=Shifted(fold / 10)) for fold in range(N_FOLDS)]

    side_by_side = learners()
    together(side_by_side)
    by_itself = learners()
    for learner in by_itself:
        train([learner], SLIDES, InMemory(), seed=7)
    for one, other in zip(side_by_side, by_itself, strict=True):
        for name in one.best:
            if "score.bias" not in name:  # no gradient but rounding, which Adam scales up
                torch.testing.assert_close(one.best[name], other.best[name], atol=1e-9, rtol=0)


# ---- who goes with whom --------------------------------------------------------------------------


def test_with_one_bag_per_step_those_go_together_that_learn_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted(FoldStack, monkeypatch)
    together(learners_of(model_of("shared_bottom_amil"), Recipe(epochs=2)))
    assert sizes == [3] * 2 * len(SLIDES), "each slide is on the training side of three folds"


def test_with_several_bags_per_step_all_go_together_if_bags_are_equally_large(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, features = counted(FoldStack, monkeypatch), InMemory()
    features.bags = {slide: bag[:9] for slide, bag in features.bags.items()}
    monkeypatch.setattr(InMemory, "_layout", lambda *_: None)
    learners = learners_of(model_of("shared_bottom_amil"), Recipe(epochs=2, bags_per_step=2))
    together(learners, features=features)
    n_steps = {-(-len(slides_of(fold, "train")) // 2) for fold in range(N_FOLDS)}
    assert n_steps == {4, 5}
    assert sizes == 2 * [5, 5, 5, 5, 2], "two folds have a ninth slide for a last step"


def test_folds_that_are_done_early_leave_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(lr=0.05, epochs=7, patience=1, select_by="val_loss")
    learners = learners_of(model_of("shared_bottom_amil", dropout=0.2), recipe)
    stack = together(learners)
    lengths = [len(learner.progress[0].history) for learner in learners]
    assert len(set(lengths)) > 1, "they must end at different epochs"
    assert_learned_the_same(alone(learners_of(model_of("shared_bottom_amil", dropout=0.2), recipe)), learners)
    assert stack.error is None


def test_a_fold_that_diverges_takes_no_other_with_it() -> None:
    def learners() -> list[Learner]:
        made = learners_of(model_of("shared_bottom_amil", dropout=0.2), RECIPES["one bag per step"])
        made[2].train.known.mul_(torch.inf)
        return made

    side_by_side = learners()
    together(side_by_side)
    failures = [learner.progress[0].failure for learner in side_by_side]
    assert [bool(failure) for failure in failures] == [False, False, True, False, False]
    by_itself = alone(learners())
    assert [learner.progress[0].failure for learner in by_itself] == failures
    good = [0, 1, 3, 4]
    assert_learned_the_same([by_itself[fold] for fold in good], [side_by_side[fold] for fold in good])


def test_folds_in_one_pass_with_others_change_nothing() -> None:
    """Neither a lone trial nor a second stack beside them."""
    start, recipe = model_of("shared_bottom_amil", dropout=0.2), RECIPES["one bag per step"]
    mine, others = learners_of(start, recipe), learners_of(start, replace(recipe, lr=0.1), folds=[0, 1])
    lone = learner_of_fold(3, start, replace(recipe, epochs=1))
    stacks = [FoldStack(mine), FoldStack(others)]
    train([lone, *others, *mine], SLIDES, InMemory(), seed=7, stacks=stacks)
    usual = learners_of(start, recipe)
    together(usual)
    assert [bits(learner) for learner in mine] == [bits(learner) for learner in usual]


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "most"), [(2_000_000, 2), pytest.param(1, 0, marks=SLOW)])
def test_steps_shrink_to_a_budget(budget: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted(FoldStack, monkeypatch)
    start, recipe = model_of("mmoe_amil", dropout=0.2), replace(RECIPES["one bag per step"], epochs=2)
    more = {"cost": alike(ActivationCost(0, 80_000)), "budget_bytes": budget}
    learners = learners_of(start, recipe, **more)
    stack = together(learners)
    assert max(sizes, default=0) == most
    assert "for the memory budget" in stack.step_memory.shortage
    assert_learned_the_same(alone(learners_of(start, recipe)), learners)


def test_a_step_that_runs_out_of_memory_is_taken_back_and_tried_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    start, recipe = model_of("mmoe_amil", dropout=0.2), replace(RECIPES["one bag per step"], epochs=2)
    real = FoldStack._losses_and_gradients

    def full(self: FoldStack, batches: list, *rest: object) -> object:
        found = real(self, batches, *rest)  # type: ignore[arg-type]
        if len(batches) > 2:  # after everything is computed and drawn
            raise torch.OutOfMemoryError("full")
        return found

    monkeypatch.setattr(FoldStack, "_losses_and_gradients", full)
    learners = learners_of(start, recipe)
    stack = together(learners)
    assert stack.step_memory.shortage.startswith("2 trials at once, after memory ran out at")
    assert all(learner.step_memory is stack.step_memory for learner in learners)
    assert_learned_the_same(alone(learners_of(start, recipe)), learners)


# ---- models that cannot --------------------------------------------------------------------------


class Draws(Tiny):
    """Draws in a way that is not torch's alone."""

    how = ""

    def forward(self, features: Tensor) -> BagOutput:
        noise = {
            "numpy": lambda: float(np.random.normal()),  # noqa: NPY002
            "python": random.random,
            "dropout": lambda: nn.functional.dropout(features, 0.5),
            "a vmap of its own": lambda: torch.vmap(lambda _: torch.rand(()), randomness="different")(
                torch.arange(3)
            ).sum(),
        }[self.how]()
        return super().forward(features + noise)


@pytest.mark.parametrize("how", ["numpy", "python", "dropout", "a vmap of its own"])
def test_draws_that_trials_cannot_have_of_their_own_end_the_stack(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draws, "how", how)
    learners = learners_of(Draws(WIDTH, 2, dropout=0.0).double(), Recipe(epochs=1))
    together(learners)
    assert all(isinstance(learner.error, MilbenchError | RuntimeError) for learner in learners)
    lone = learner_of_fold(0, Draws(WIDTH, 2, dropout=0.0).double(), Recipe(epochs=1))
    train([lone], SLIDES, InMemory(), seed=7)
    assert lone.error is None, "each can be trained alone"


def test_a_model_that_raises_ends_the_work_of_its_stack_alone() -> None:
    class Raises(Tiny):
        def forward(self, features: Tensor) -> BagOutput:
            raise ValueError("on purpose")

    bad = learners_of(Raises(WIDTH, 2).double(), Recipe(epochs=2))
    good = learners_of(model_of("shared_bottom_amil"), Recipe(epochs=2))
    train([*bad, *good], SLIDES, InMemory(), seed=7, stacks=[FoldStack(bad), FoldStack(good)])
    assert {type(learner.error) for learner in bad} == {ValueError}
    assert {learner.error for learner in good} == {None}
    assert {len(learner.progress[0].history) for learner in good} == {2}


def test_an_error_of_one_fold_is_the_error_of_all() -> None:
    """The model raises in the validation of one fold; the stack is then tried again one by one."""
    learners = learners_of(model_of("shared_bottom_amil"), Recipe(epochs=2))

    def raises() -> None:
        raise ValueError("on purpose")

    learners[1].end_epoch = raises  # type: ignore[method-assign]
    together(learners)
    assert {type(learner.error) for learner in learners} == {ValueError}


def test_a_model_that_writes_into_the_bag_of_all_is_found_out() -> None:
    class Writes(Tiny):
        def forward(self, features: Tensor) -> BagOutput:
            with torch.no_grad():
                features.mul_(1.5)
            return super().forward(features)

    features = InMemory()
    before = {slide: bag.clone() for slide, bag in features.bags.items()}
    learners = learners_of(Writes(WIDTH, 2, dropout=0.0).double(), Recipe(epochs=1))
    together(learners, features=features)
    assert {type(learner.error) for learner in learners} == {MilbenchError}
    assert all(torch.equal(features.bags[slide], bag) for slide, bag in before.items())


def test_a_model_that_changes_its_buffer_is_refused() -> None:
    class Counts(Tiny):
        def __init__(self, in_features: int, n_tasks: int) -> None:
            super().__init__(in_features, n_tasks, dropout=0.0)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, features: Tensor) -> BagOutput:
            self.get_buffer("seen").add_(1)
            return super().forward(features)

    learners = learners_of(Counts(WIDTH, 2).double(), Recipe(epochs=1))
    together(learners)
    assert all("changes its buffer 'seen'" in str(learner.error) for learner in learners)


def test_what_does_not_go_together_is_no_stack() -> None:
    start = model_of("shared_bottom_amil")
    with pytest.raises(ValueError, match="one recipe"):
        FoldStack([learner_of_fold(0, start, Recipe()), learner_of_fold(1, start, Recipe(lr=0.5))])
    torch.manual_seed(0)
    cox = load_models()["mmoe_amil"](WIDTH, Outputs((COX, BINARY)), hidden=8, attention=4, experts=2).double()
    with pytest.raises(ValueError, match="Cox"):
        FoldStack(learners_of(cox, Recipe(bags_per_step=8), endpoints=(COX, BINARY)))


def test_features_that_cannot_be_read_end_the_pass() -> None:
    class Broken(InMemory):
        def in_order(self, slide_ids):  # type: ignore[no-untyped-def]
            yield slide_ids[0], Patches(self.bags[slide_ids[0]])
            raise DataError("gone")

    with pytest.raises(DataError, match="gone"):
        together(learners_of(model_of("shared_bottom_amil"), Recipe(epochs=1)), features=Broken())


# ---- resumption ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(Recipe(lr=0.02, epochs=5, bags_per_step=2), marks=SLOW),
        Recipe(lr=0.05, epochs=9, patience=1, select_by="val_loss"),
        pytest.param(Recipe(lr=0.02, epochs=5, optimizer="lookahead_radam", task_weights="uncertainty"), marks=SLOW),
    ],
    ids=["adam", "out of patience", "lookahead"],
)
def test_a_stack_that_was_stopped_ends_with_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    path, start, n_epochs = tmp_path / "checkpoint.safetensors", model_of("shared_bottom_amil", dropout=0.3), 4
    whole = learners_of(start, recipe)
    together(whole)
    stopped, resumed = learners_of(start, recipe), learners_of(start, recipe)

    def save() -> None:
        if max(learner.epoch for learner in stopped) == n_epochs:
            save_fold_stack(stopped, path, "mine")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        together(stopped, after_epoch=save)
    stack = FoldStack(resumed)
    assert not load_fold_stack(resumed, path, "yours")
    assert not load_fold_stack(resumed[:-1], path, "mine")
    assert {learner.epoch for learner in resumed} == {0}, "all of them stand where the checkpoint was written, or none"
    assert load_fold_stack(resumed, path, "mine")
    assert max(learner.epoch for learner in resumed) == n_epochs
    if recipe.patience is not None:
        assert len({learner.is_done for learner in resumed}) == 2, "some must be done, and others not"
    train(resumed, SLIDES, InMemory(), seed=7, stacks=[stack])
    assert [bits(learner) for learner in resumed] == [bits(learner) for learner in whole]
