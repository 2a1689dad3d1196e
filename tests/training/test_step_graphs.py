"""Step graphs: steps that are replayed learn, to the bit, what steps learn that are taken as always."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints_for_tests import bits
from endpoints_for_tests import BINARY, CLASSES, COX, SCORE, learner_of
from folds_for_tests import learners_of
from graphs_for_tests import NEED_THE_CPU, TapeRecorder
from stacks_for_tests import N_MEMBERS, OURS, SLIDES, TRAIN, WIDTH, InMemory, learner, model_of
from torch import Tensor, nn

from milbench.engines.checkpoint import load_checkpoint, save_checkpoint
from milbench.models import BagOutput, MILModel
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.step_graphs import GraphedModel, StepGraphs
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

BRIEF = Recipe(lr=0.02, epochs=3)
SIZES = 2
"""Of the bags in memory."""


def replaying(*learners: Learner, recorder: TapeRecorder | None = None) -> TapeRecorder:
    """The recorder by which these learners were trained."""
    recorder = recorder or TapeRecorder()
    train(learners, SLIDES, InMemory(), seed=7, graphs=StepGraphs(recorder))
    return recorder


def trained_twice(make: Callable[[], Learner], recorder: TapeRecorder | None = None) -> tuple[Learner, Learner]:
    """Without graphs and with them."""
    plain, graphed = make(), make()
    train([plain], SLIDES, InMemory(), seed=7)
    replaying(graphed, recorder=recorder)
    assert plain.error is None, plain.error
    assert graphed.error is None, graphed.error
    return plain, graphed


def n_replayed(each: Learner) -> int:
    assert isinstance(each.weights, GraphedModel)
    return each.weights.n_replayed


@pytest.mark.parametrize("name", OURS)
def test_a_replayed_training_ends_with_the_same_bits(name: str) -> None:
    start = model_of(name)
    plain, graphed = trained_twice(lambda: learner([0], start, BRIEF))
    assert bits(graphed) == bits(plain)
    assert n_replayed(graphed) == (0 if name in NEED_THE_CPU else BRIEF.epochs * len(TRAIN) - SIZES)


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
    assert replaying(resumed).done.count("record") == SIZES
    assert bits(resumed) == bits(whole)


def test_folds_that_step_together_leave_graphs_the_steps_that_each_takes_alone() -> None:
    start = model_of("shared_bottom_amil")
    ends = []
    for graphs in (None, StepGraphs(TapeRecorder())):
        learners = learners_of(start, BRIEF)
        train(learners, SLIDES, InMemory(), seed=7, stacks=[FoldStack(learners[:2])], graphs=graphs)
        ends.append([bits(each) for each in learners])
    assert ends[0] == ends[1]
    assert n_replayed(learners[0]) < n_replayed(learners[2])


def test_trials_of_one_pass_share_the_place_of_bags_and_nothing_else() -> None:
    start = model_of("m4")
    alone = [learner([member], start, BRIEF) for member in range(2)]
    for each in alone:
        train([each], SLIDES, InMemory(), seed=7)
    together = [learner([member], start, BRIEF) for member in range(2)]
    recorder = replaying(*together)
    assert [bits(each) for each in together] == [bits(each) for each in alone]
    assert recorder.done.count("record") == 2 * SIZES
    assert (recorder.done[0], recorder.done[-1]) == ("begin", "end")


def test_a_size_is_recorded_at_its_second_visit_and_all_graphs_are_gone_after_training() -> None:
    each = learner([0], model_of("amil"), BRIEF)
    recorder = replaying(each)
    assert recorder.done.count("record") == SIZES
    assert recorder.done.count("replay") == n_replayed(each)
    assert isinstance(each.weights, GraphedModel)
    assert each.weights.n_graphs == 0


@pytest.mark.parametrize(
    ("members", "recipe"),
    [([0], Recipe(lr=0.02, epochs=3, bags_per_step=5)), (range(N_MEMBERS), BRIEF)],
    ids=["several bags per step", "a stack"],
)
def test_other_steps_are_taken_as_always(members: range, recipe: Recipe) -> None:
    start = model_of("amil")
    plain, graphed = learner(members, start, recipe), learner(members, start, recipe)
    train([plain], SLIDES, InMemory(), seed=7)
    assert "record" not in replaying(graphed).done
    assert bits(graphed) == bits(plain)


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
    assert graphs.problem == "RuntimeError: operation not permitted"


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
    assert graphs.problem == "memory ran out"


class Branching(MILModel):
    """Its Python depends on numbers."""

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__(in_features, n_outputs)
        self.head = nn.Linear(in_features, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        mean = features.mean(dim=0)
        turned = self.training and mean[0] > 0  # bags of a validation go through it together, where it could not ask
        return BagOutput(self.head(-mean if turned else mean), None, {})


def test_a_model_that_needs_the_cpu_is_not_recorded() -> None:
    torch.manual_seed(0)
    start = Branching(WIDTH, 1).double()
    plain, graphed = trained_twice(lambda: learner([0], copy.deepcopy(start), BRIEF))
    assert bits(graphed) == bits(plain)
    assert isinstance(graphed.weights, GraphedModel)
    assert graphed.weights.needs_cpu_for == ["aten::_local_scalar_dense needs numbers"]
    assert n_replayed(graphed) == 0
