"""A CUDA graph's stand-in on the CPU, and trainings with it: it plays the operators of a step again, without the step's Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from checkpoints_for_tests import bits
from stacks_for_tests import SLIDES, InMemory
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.replays import Replays
from milbench.training.step_graphs import GraphedModel, GraphedStack, ModelGraphs, StepGraphs
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

BRIEF = Recipe(lr=0.02, epochs=3)

NEED_THE_CPU = {"barspoon": ["aten::randint draws on the CPU", "aten::_local_scalar_dense needs numbers"]}
"""By model, what its step needs the CPU for. Steps of all others can be recorded, and so must be those of the study's models."""


VALIDATIONS_NEED_THE_CPU = {"dtfd_mil": ["aten::_to_copy copies from the CPU"]}
"""By model, what its validations on a GPU need the CPU for; on a CPU nothing is copied."""


class Tape(TorchDispatchMode):
    """Operators that ran inside, with the very tensors that they read and made: as in a CUDA graph, these stay in place."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Mapping[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = tree_map(_same_memory, (args, kwargs or {}))
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, *given, tree_map(_same_memory, made)))
        return made

    @torch.no_grad()
    def play(self) -> None:
        """Run them again. What is made anew goes to where it was; views and what is written in place are there already."""
        for func, args, named, made in self.calls:
            aliases = [each.alias_info for each in func._schema.returns]
            is_view = aliases and all(alias is not None and not alias.is_write for alias in aliases)
            if is_view or torch.Tag.inplace_view in func.tags:
                continue  # of what the calls before have filled
            again = func(*args, **named)
            for place, value in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def _same_memory(value: Any) -> Any:
    """A tensor of the same memory, that keeps its shape when `squeeze_` and the like change that of the first."""
    return value.detach() if isinstance(value, Tensor) else value


class TapeRecorder:
    """Recorder of the CPU.

    Parameters
    ----------
    room : recordings that there is memory for.
    error : what a recording raises; None = nothing.

    Attributes
    ----------
    done : "begin", "record", "replay" and "end", as they happened.
    """

    def __init__(self, room: int = 1000, error: Exception | None = None) -> None:
        self.room, self.error = room, error
        self.done: list[str] = []

    @contextmanager
    def session(self) -> Iterator[None]:
        self.done.append("begin")
        yield
        self.done.append("end")

    def has_room(self, n_bytes: int) -> bool:
        return self.done.count("record") < self.room

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        assert self.done[0] == "begin"
        assert "end" not in self.done
        if self.error is not None:
            raise self.error
        self.done.append("record")
        drawn = torch.get_rng_state(), [each.get_state() for each in generators]
        try:
            with Tape() as tape:
                work()
        finally:
            torch.set_rng_state(drawn[0])  # a recording draws nothing
            for generator, state in zip(generators, drawn[1], strict=True):
                generator.set_state(state)

        def replay() -> None:
            self.done.append("replay")
            tape.play()

        return replay


def graphs_of(each: Learner) -> ModelGraphs:
    assert isinstance(each.weights, (GraphedModel, GraphedStack))
    return each.weights.graphs


def n_replayed(each: Learner) -> int:
    return graphs_of(each).steps.n_replayed


def folds_twice(make: Callable[[], list[Learner]], problem: str = "") -> tuple[list[Learner], Replays]:
    """Learners of folds that step together, which end with graphs where they end without; and the replays of their steps."""
    ends = []
    for graphs in (None, StepGraphs(TapeRecorder())):
        learners = make()
        stack = FoldStack(learners)
        train(learners, SLIDES, InMemory(), seed=7, stacks=[stack], graphs=graphs)
        assert [each.error for each in learners] == [None] * len(learners)
        ends.append(
            [(bits(each), each.random.uses, [state.tolist() for state in each.random.states]) for each in learners]
        )
    assert ends[0] == ends[1]
    assert stack.replays is not None
    assert stack.replays.memory.problem == problem
    return learners, stack.replays
