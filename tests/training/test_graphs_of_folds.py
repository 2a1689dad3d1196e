"""Graphs of folds: trials of several folds that step together learn the same bits from replayed steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from checkpoints_for_tests import bits
from folds_for_tests import N_FOLDS, learner_of_fold, learners_of, slides_of
from graphs_for_tests import BRIEF, NEED_THE_CPU, TapeRecorder, folds_twice, n_replayed
from stacks_for_tests import (
    OURS,
    SLIDES,
    InMemory,
    Shifted,
    model_of,
)

from milbench.engines.checkpoint import load_fold_stack, save_fold_stack
from milbench.registry import load_models
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.replays import Replays
from milbench.training.step_graphs import StepGraphs, graphs_record
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

MULTI = [name for name in OURS if load_models()[name].info.tasks == "multi"]

SLOW = pytest.mark.slow


def groups_of_trials() -> set[tuple[int, Sequence[int]]]:
    """Sizes of bags with the folds that learn from them."""
    bags = InMemory().bags
    folds = {slide: [fold for fold in range(N_FOLDS) if slide in slides_of(fold, "train")] for slide in SLIDES}
    return {(len(bags[slide]), tuple(own)) for slide, own in folds.items()}


@pytest.mark.parametrize("name", [n if n == "mmoe_amil" else pytest.param(n, marks=SLOW) for n in (*MULTI, "transmil")])
def test_folds_that_step_together_are_replayed_with_the_same_bits(name: str) -> None:
    learners, replays = folds_twice(lambda: learners_of(model_of(name), BRIEF))
    n_steps = BRIEF.epochs * len(SLIDES)
    assert replays.n_replayed == (0 if name in NEED_THE_CPU else n_steps - len(groups_of_trials()))
    assert {n_replayed(each) for each in learners} == {0}, "no trial took a step alone"
    told = graphs_record(learners[0].weights, replays)
    assert told is not None
    assert told["replayed_steps_of_folds"] == replays.n_replayed
    assert (told["why_not_more"] == "") == (name not in NEED_THE_CPU)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.02, epochs=3, task_weights="uncertainty", bag_patches=9),
        Recipe(lr=0.05, epochs=7, patience=1, select_by="val_loss"),
    ],
    ids=["uncertainty, drawn patches", "out of patience"],
)
def test_every_setting_that_changes_steps_holds_for_replayed_folds(recipe: Recipe) -> None:
    start = model_of("shared_bottom_amil", dropout=0.3)
    learners, replays = folds_twice(lambda: learners_of(start, recipe))
    assert replays.n_replayed > 0
    if recipe.patience is not None:
        assert len({each.epoch for each in learners}) > 1, "some must be done before others"


def test_folds_whose_bags_are_scaled_differently_are_replayed_on_bags_of_their_own() -> None:
    start = model_of("shared_bottom_amil", dropout=0.3)
    _, replays = folds_twice(
        lambda: [learner_of_fold(fold, start, BRIEF, scaler=Shifted(fold / 10)) for fold in range(N_FOLDS)]
    )
    assert replays.n_replayed > 0


def test_a_trial_of_a_fold_stack_that_steps_alone_replays_too() -> None:
    start = model_of("shared_bottom_amil")
    ends = []
    for graphs in (None, StepGraphs(TapeRecorder())):
        learners = learners_of(start, BRIEF)
        train(learners, SLIDES, InMemory(), seed=7, stacks=[FoldStack(learners[:2])], graphs=graphs)
        ends.append([bits(each) for each in learners])
    assert ends[0] == ends[1]
    assert 0 < n_replayed(learners[0]) < n_replayed(learners[2])


def test_resumed_folds_end_with_the_same_bits(tmp_path: Path) -> None:
    start, path = model_of("shared_bottom_amil", dropout=0.3), tmp_path / "checkpoint.safetensors"
    whole, stopped, resumed = (learners_of(start, Recipe(lr=0.02, epochs=5)) for _ in range(3))

    def save() -> None:
        if stopped[0].epoch == 3:
            save_fold_stack(stopped, path, "mine")
            raise KeyboardInterrupt

    def go(learners: list[Learner], after_epoch: Callable[[], None] = lambda: None) -> Replays | None:
        stack, graphs = FoldStack(learners), StepGraphs(TapeRecorder())
        if learners is resumed:
            assert load_fold_stack(resumed, path, "mine")
        train(learners, SLIDES, InMemory(), seed=7, stacks=[stack], graphs=graphs, after_epoch=after_epoch)
        return stack.replays

    go(whole)
    with pytest.raises(KeyboardInterrupt):
        go(stopped, save)
    replays = go(resumed)
    assert replays is not None
    assert replays.n_replayed > 0
    assert [bits(each) for each in resumed] == [bits(each) for each in whole]


def test_when_memory_runs_out_graphs_of_folds_go_before_steps_get_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Replays.of, 0

    def full(self: Replays, *args: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2 * len(SLIDES):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Replays, "of", full)
    start = model_of("shared_bottom_amil", dropout=0.3)
    learners, replays = folds_twice(lambda: learners_of(start, BRIEF), problem="memory ran out")
    assert replays.n_replayed > 0
    assert {each.step_memory.shortage for each in learners} == {""}
