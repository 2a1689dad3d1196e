"""Step graphs: steps that are replayed learn, to the bit, what steps learn that are taken as always."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_for_tests import bits
from endpoints_for_tests import BINARY, CLASSES, COX, SCORE, learner_of
from folds_for_tests import learners_of
from graphs_for_tests import BRIEF, NEED_THE_CPU, TapeRecorder, folds_twice, graphs_of, n_replayed
from stacks_for_tests import (
    N_MEMBERS,
    OURS,
    SLIDES,
    TRAIN,
    WIDTH,
    InMemory,
    alike,
    learner,
    model_of,
    of_own_rates,
)
from torch import Tensor, nn

from milbench.engines.checkpoint import load_checkpoint, save_checkpoint
from milbench.models import BagOutput, MILModel
from milbench.training.activations import ActivationCost
from milbench.training.learner import Learner
from milbench.training.step_graphs import GraphedModel, StepGraphs, graphs_record
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

SIZES = 2
"""Of the bags in memory."""

GROUPS = 3
"""In which a validation looks at its bags: one of 9 patches, one of 13, and three of 9 together."""


def replaying(*learners: Learner, recorder: TapeRecorder | None = None) -> TapeRecorder:
    """The recorder by which these learners were trained."""
    recorder = recorder or TapeRecorder()
    graphs = StepGraphs(recorder)
    train(learners, SLIDES, InMemory(), seed=7, graphs=graphs)
    assert graphs.memory.problem == ""
    return recorder


def trained_twice(make: Callable[[], Learner], recorder: TapeRecorder | None = None) -> tuple[Learner, Learner]:
    """Without graphs and with them."""
    plain, graphed = make(), make()
    train([plain], SLIDES, InMemory(), seed=7)
    replaying(graphed, recorder=recorder)
    assert plain.error is None, plain.error
    assert graphed.error is None, graphed.error
    return plain, graphed


@pytest.mark.parametrize("members", [range(1), range(N_MEMBERS)], ids=["alone", "stacked"])
@pytest.mark.parametrize("name", OURS)
def test_a_replayed_training_ends_with_the_same_bits(name: str, members: range) -> None:
    start = model_of(name)
    plain, graphed = trained_twice(lambda: learner(members, start, BRIEF))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) == (0 if name in NEED_THE_CPU else BRIEF.epochs * len(TRAIN) - SIZES)
    assert graphs_of(graphed).evaluations.n_replayed == (BRIEF.epochs - 1) * GROUPS


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.02, epochs=3, clip_norm=0.05),
        Recipe(lr=0.02, epochs=3, optimizer="lookahead_radam", decay_vectors=False),
        Recipe(lr=0.02, epochs=3, label_smoothing=0.2, bag_patches=7, warmup=1.5),
    ],
    ids=["clipped", "lookahead", "drawn patches"],
)
def test_what_stays_outside_of_a_graph_works_as_always(recipe: Recipe) -> None:
    start = model_of("m4")
    plain, graphed = trained_twice(lambda: learner([0], start, recipe))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) > 0


@pytest.mark.parametrize("task_weights", ["uncertainty", "dwa"])
def test_weights_of_tasks_follow_the_losses_of_replayed_steps(task_weights: str) -> None:
    recipe = Recipe(lr=0.02, epochs=4, task_weights=task_weights)
    plain, graphed = trained_twice(lambda: learner_of((BINARY, CLASSES, SCORE), [0], recipe))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) > 0


def test_a_cox_loss_gets_the_targets_of_each_step() -> None:
    plain, graphed = trained_twice(lambda: learner_of((BINARY, COX), [0], BRIEF))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) > 0


def test_a_resumed_training_records_anew_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    start, path = model_of("m4"), tmp_path / "checkpoint.safetensors"
    whole, stopped, resumed = (learner([0], start, Recipe(lr=0.02, epochs=6)) for _ in range(3))
    replaying(whole)

    def save() -> None:
        if stopped.epoch == 3:
            save_checkpoint(stopped, path, "mine")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([stopped], SLIDES, InMemory(), seed=7, after_epoch=save, graphs=StepGraphs(TapeRecorder()))
    assert load_checkpoint(resumed, path, "mine")
    assert replaying(resumed).done.count("record") == SIZES + GROUPS
    assert bits(resumed) == bits(whole)


def test_trials_of_one_pass_share_the_place_of_bags_and_nothing_else() -> None:
    start = model_of("m4")
    alone = [learner([member], start, BRIEF) for member in range(2)]
    for each in alone:
        train([each], SLIDES, InMemory(), seed=7)
    together = [learner([member], start, BRIEF) for member in range(2)]
    recorder = replaying(*together)
    assert [bits(each) for each in together] == [bits(each) for each in alone]
    assert recorder.done.count("record") == 2 * (SIZES + GROUPS)
    assert (recorder.done[0], recorder.done[-1]) == ("begin", "end")


def test_a_size_is_recorded_at_its_second_visit_and_all_graphs_are_gone_after_training() -> None:
    each = learner([0], model_of("amil"), BRIEF)
    recorder = replaying(each)
    graphs = graphs_of(each)
    assert recorder.done.count("record") == SIZES + GROUPS
    assert recorder.done.count("replay") == graphs.steps.n_replayed + graphs.evaluations.n_replayed
    assert (graphs.steps.n_recorded, graphs.evaluations.n_recorded) == (0, 0)


@pytest.mark.parametrize("members", [range(1), range(N_MEMBERS)], ids=["alone", "stacked"])
def test_steps_of_several_bags_are_taken_as_always(members: range) -> None:
    start, recipe = model_of("amil"), Recipe(lr=0.02, epochs=3, bags_per_step=5)
    plain, graphed = trained_twice(lambda: learner(members, start, recipe))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) == 0
    assert graphs_of(graphed).evaluations.n_replayed == (recipe.epochs - 1) * GROUPS


# ---- stacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        (Recipe(lr=0.02, epochs=3, clip_norm=0.05, bag_patches=7), {}),
        (BRIEF, {"recipes": of_own_rates(BRIEF)}),
    ],
    ids=["clipped, drawn patches", "own rates"],
)
def test_what_stays_outside_of_a_stacks_graph_works_as_always(recipe: Recipe, more: dict) -> None:
    start = model_of("amil", dropout=0.3)
    plain, graphed = trained_twice(lambda: learner(range(N_MEMBERS), start, recipe, **more))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) > 0


PATIENT = Recipe(lr=0.02, epochs=12, patience=1, select_by="val_loss")


def test_a_stack_that_loses_trials_records_anew_and_the_last_one_steps_as_always() -> None:
    start = model_of("dsmil", dropout=0.3)
    members: list[int] = []
    ends = []
    for recorder in (None, TapeRecorder()):
        each = learner(range(N_MEMBERS), start, PATIENT)

        def note(each: Learner = each, recorder: TapeRecorder | None = recorder) -> None:
            members.append(len(each.still_learning))
            if recorder and each.still_learning and len(each.still_learning) < N_MEMBERS:
                graphs = graphs_of(each)
                is_new = graphs.steps.n_recorded + graphs.evaluations.n_recorded < SIZES + GROUPS
                assert is_new or members[-1] == members[-2], "graphs of the larger stack are gone"

        graphs = recorder and StepGraphs(recorder)
        train([each], SLIDES, InMemory(), seed=7, after_epoch=note, graphs=graphs)
        assert each.error is None, each.error
        ends.append(bits(each))
    assert ends[0] == ends[1]
    assert {*members} == {0, 1, 2, N_MEMBERS}, "some must end before others"
    assert n_replayed(each) > 0


@pytest.mark.parametrize("recipe", [Recipe(lr=0.02, epochs=6), PATIENT], ids=["adam", "out of patience"])
def test_a_resumed_stack_ends_with_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    start, path = model_of("dsmil", dropout=0.3), tmp_path / "checkpoint.safetensors"
    whole, stopped, resumed = (learner(range(N_MEMBERS), start, recipe) for _ in range(3))
    replaying(whole)

    def save() -> None:
        if stopped.epoch == 4:
            save_checkpoint(stopped, path, "mine")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train([stopped], SLIDES, InMemory(), seed=7, after_epoch=save, graphs=StepGraphs(TapeRecorder()))
    assert len(stopped.still_learning) == (N_MEMBERS if recipe.patience is None else 2)
    assert load_checkpoint(resumed, path, "mine")
    replaying(resumed)
    assert n_replayed(resumed) > 0
    assert bits(resumed) == bits(whole)


def test_steps_that_memory_parts_into_turns_are_taken_as_always() -> None:
    def make() -> Learner:
        each = learner(range(N_MEMBERS), start, BRIEF)
        each.step_memory.at_once = 2
        return each

    start = model_of("amil", dropout=0.3)
    plain, graphed = trained_twice(make)
    assert bits(graphed) == bits(plain)
    assert (n_replayed(graphed), graphs_of(graphed).evaluations.n_replayed) == (0, 0)


def test_a_recorder_is_told_what_a_step_of_all_trials_takes() -> None:
    asked: list[int] = []

    class Asked(TapeRecorder):
        def has_room(self, n_bytes: int) -> bool:
            asked.append(n_bytes)
            return True

    each = learner(range(N_MEMBERS), model_of("amil"), BRIEF, cost=alike(ActivationCost(0, 100)), budget_bytes=10**9)
    replaying(each, recorder=Asked())
    assert {*asked} == {N_MEMBERS * 100 * 9, N_MEMBERS * 100 * 13, 0}, "nothing is kept of an evaluation"


# ---- what cannot be recorded ---------------------------------------------------------------------


def test_without_room_for_more_graphs_the_other_steps_are_taken_as_always() -> None:
    start = model_of("m4")
    plain, graphed = trained_twice(lambda: learner([0], start, BRIEF), TapeRecorder(room=1))
    assert bits(graphed) == bits(plain)
    assert 0 < n_replayed(graphed) < BRIEF.epochs * len(TRAIN) - SIZES


def test_a_recording_that_fails_ends_all_recording_and_no_training() -> None:
    start, recorder = model_of("m4"), TapeRecorder(error=RuntimeError("operation not permitted"))
    plain, graphed = learner([0], start, BRIEF), learner([0], start, BRIEF)
    train([plain], SLIDES, InMemory(), seed=7)
    graphs = StepGraphs(recorder)
    train([graphed], SLIDES, InMemory(), seed=7, graphs=graphs)
    assert bits(graphed) == bits(plain)
    assert graphs.memory.problem == "RuntimeError: operation not permitted"


def test_when_memory_runs_out_graphs_go_before_steps_get_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    start = model_of("m4")
    plain, graphed = learner([0], start, BRIEF), learner([0], start, BRIEF)
    train([plain], SLIDES, InMemory(), seed=7)
    replay, calls = GraphedModel.forward_backward, 0

    def full(self: GraphedModel, *args: object, **named: object) -> Tensor:
        nonlocal calls
        calls += 1
        losses = replay(self, *args, **named)  # type: ignore[arg-type]
        if calls == 2 * len(TRAIN):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return losses

    monkeypatch.setattr(GraphedModel, "forward_backward", full)
    graphs = StepGraphs(TapeRecorder())
    train([graphed], SLIDES, InMemory(), seed=7, graphs=graphs)
    assert bits(graphed) == bits(plain)
    assert graphed.step_memory.shortage == ""
    assert graphs.memory.problem == "memory ran out"


class Branching(MILModel):
    """Its Python depends on numbers."""

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__(in_features, n_outputs)
        self.head = nn.Linear(in_features, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        mean = features.mean(dim=0)
        turned = self.training and mean[0] > 0  # bags of a validation go through it together, where it could not ask
        return BagOutput(self.head(-mean if turned else mean), None, {})


NEEDS_NUMBERS = "aten::_local_scalar_dense needs numbers"


@pytest.mark.parametrize("members", [range(1), range(N_MEMBERS)], ids=["alone", "stacked"])
def test_steps_that_need_the_cpu_are_not_recorded_and_validations_are(members: range) -> None:
    torch.manual_seed(0)
    start = Branching(WIDTH, 1).double()
    plain, graphed = trained_twice(lambda: learner(members, copy.deepcopy(start), BRIEF))
    assert bits(graphed) == bits(plain)
    assert graphs_of(graphed).steps.needs_cpu_for == [NEEDS_NUMBERS]
    assert graphs_record(graphed.weights) == {
        "replayed_steps": 0, "replayed_evaluations": (BRIEF.epochs - 1) * GROUPS, "why_not_more": NEEDS_NUMBERS
    }  # fmt: skip


def test_steps_of_folds_that_need_the_cpu_are_not_recorded() -> None:
    torch.manual_seed(0)
    start = Branching(WIDTH, 1).double()
    learners, replays = folds_twice(lambda: learners_of(start, BRIEF))
    assert replays.needs_cpu_for == [NEEDS_NUMBERS]
    told = graphs_record(learners[0].weights, replays)
    assert told is not None
    assert (told["replayed_steps_of_folds"], told["why_not_more"]) == (0, NEEDS_NUMBERS)


class Drawing(Branching):
    """Its validations draw from NumPy, where several bags go through it together."""

    def forward(self, features: Tensor) -> BagOutput:
        is_quiet = self.training or not torch._C._are_functorch_transforms_active()
        noise = 0.0 if is_quiet else float(np.random.rand())  # noqa: NPY002
        return BagOutput(self.head(features.mean(dim=0) + noise), None, {})


def test_validations_that_need_the_cpu_are_not_recorded_and_steps_are() -> None:
    torch.manual_seed(0)
    start = Drawing(WIDTH, 1).double()
    plain, graphed = trained_twice(lambda: learner([0], copy.deepcopy(start), BRIEF))
    assert bits(graphed) == bits(plain)
    assert graphs_of(graphed).evaluations.needs_cpu_for == ["draws from NumPy or Python"]
    assert (n_replayed(graphed) > 0, graphs_of(graphed).evaluations.n_replayed) == (True, 0)
