"""Step graphs: what a model does with a bag in training and in validation, recorded once per size of bag, and replayed.

On a fast GPU models wait for the launches of their many operations. A graph launches them at once (`replays.py`).

========================  =======================================================================================
a single model            forward, loss and backward of one bag; loss and logits of the bags of a validation
a stack                   the same, of all its trials at once
folds side by side        forward, loss and backward of the trials that learn from a bag; the rest trial by trial
========================  =======================================================================================

Steps that a graph cannot hold are taken as always: those of several bags, those that recompute activations, those that
memory parts into turns, and all of a model that needs the CPU for a step. Clipping, the optimiser and all checks stay
outside. So the optimiser's rate stays a number of 64 bits; as a tensor, which a graph would need, it would be rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor

from milbench.layout import Patches
from milbench.training.learner import Learner
from milbench.training.replays import Recorder, ReplayMemory, Replays
from milbench.training.weights import OneModel, ParameterStack


class TakesSteps(Protocol):
    """A fold stack, as far as it is of interest here."""

    replays: Replays | None


class StepGraphs:
    """Graphs of the models of one pass.

    Attributes
    ----------
    memory : what all of them share.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.memory = ReplayMemory(recorder)

    @contextmanager
    def used_by(self, learners: Sequence[Learner], stacks: Iterable[TakesSteps] = ()) -> Iterator[None]:
        """Inside, learners and fold stacks replay their steps. Afterwards all graphs are gone."""
        for learner in learners:
            learner.weights = self.of(learner.weights, learner.step_memory.bytes_of)
            learner.step_memory.let_go = self.memory.let_go
        for stack in stacks:
            stack.replays = self.memory.replays()
        try:
            with self.memory.recorder.session():
                yield
        finally:
            self.memory.end()

    def of(
        self, weights: OneModel | ParameterStack, bytes_of: Callable[[int, int], int] = lambda *_: 0
    ) -> GraphedModel | GraphedStack:
        """The same weights, which replay their steps.

        Parameters
        ----------
        bytes_of : memory of a step, about, by patches and models.
        """
        graphs = ModelGraphs(self.memory, bytes_of)
        return GraphedModel(weights, graphs) if isinstance(weights, OneModel) else GraphedStack(weights, graphs)


class ModelGraphs:
    """Graphs of what one model or stack does.

    Attributes
    ----------
    steps, evaluations : of training, and of bags without gradients.
    """

    def __init__(self, memory: ReplayMemory, bytes_of: Callable[[int, int], int]) -> None:
        self.steps, self.evaluations, self.bytes_of = memory.replays(), memory.replays(), bytes_of

    def forget(self) -> None:
        """Let all graphs go, because the weights move to other tensors."""
        self.steps.forget()
        self.evaluations.forget()

    def forward_backward(
        self, plain: OneModel | ParameterStack, bag: Patches, targets: Tensor, known: Tensor
    ) -> Tensor:
        """Losses [S] of one bag, as `Weights.forward_backward` gives them.

        Losses and gradients lie where they are until the model's next step.
        """
        parameters, weights_move = list(plain.named_parameters().values()), known.requires_grad

        def work(bags: Sequence[Patches], *labels: Tensor) -> Sequence[Tensor | None]:
            leaf = labels[1].detach().requires_grad_(weights_move)
            leaves = [*parameters, leaf] if weights_move else parameters
            losses, _ = plain.losses_and_logits(bags, labels[0], leaf, at_once=plain.n_models)
            # not `backward`: that keeps the stream of a parameter's first gradient, which would have to be the recorder's
            found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
            return [losses.detach().sum(dim=1), *found]

        n_bytes = self.bytes_of(len(bag), plain.n_models)
        losses, *gradients = self.steps.of(work, [bag], [targets, known], n_bytes=n_bytes)
        # weights of tasks follow their losses, which are in the gradient of `known` (`step_labels.py`)
        for leaf, gradient in zip([*parameters, known] if weights_move else parameters, gradients, strict=True):
            leaf.grad = None if gradient is None else gradient.contiguous()
        return cast(Tensor, losses)

    def losses_and_logits(
        self, plain: OneModel | ParameterStack, bags: Sequence[Patches], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `Weights.losses_and_logits`, without gradients. They lie where they are until the next call."""

        def work(bags: Sequence[Patches], *labels: Tensor) -> Sequence[Tensor]:
            return plain.losses_and_logits(bags, *labels, at_once=plain.n_models)

        found = self.evaluations.of(work, bags, [targets, known], among=plain.model.training)
        return cast(tuple[Tensor, Tensor], tuple(found))


class GraphedModel(OneModel):
    """A single model whose steps are replayed where a graph can hold them. Results are those of the same operations.

    Parameters
    ----------
    plain : the model. It shares everything with this one.
    """

    def __init__(self, plain: OneModel, graphs: ModelGraphs) -> None:
        vars(self).update(vars(plain))
        self.plain, self.graphs = plain, graphs

    def forward_backward(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        if divisor > 1 or recompute or not self.graphs.steps.is_open:
            return self.plain.forward_backward(bags, targets, known, divisor, at_once=at_once, recompute=recompute)
        return self.graphs.forward_backward(self.plain, bags[0], targets, known)

    def losses_and_logits(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, *, at_once: int
    ) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() or not self.graphs.evaluations.is_open:
            return self.plain.losses_and_logits(bags, targets, known, at_once=at_once)
        return self.graphs.losses_and_logits(self.plain, bags, targets, known)


class GraphedStack(ParameterStack):
    """A stack whose steps are replayed where a graph can hold them. Results are those of the same operations.

    Parameters
    ----------
    plain : the stack. It shares everything with this one.
    """

    def __init__(self, plain: ParameterStack, graphs: ModelGraphs) -> None:
        vars(self).update(vars(plain))
        self.plain, self.graphs = plain, graphs

    def forward_backward(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        # the last trial of a stack takes its steps without vmap
        is_held = divisor == 1 and not recompute and 1 < self.n_models <= at_once
        if not is_held or not self.graphs.steps.is_open:
            return self.plain.forward_backward(bags, targets, known, divisor, at_once=at_once, recompute=recompute)
        return self.graphs.forward_backward(self.plain, bags[0], targets, known)

    def losses_and_logits(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, *, at_once: int
    ) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() or at_once < self.n_models or not self.graphs.evaluations.is_open:
            return self.plain.losses_and_logits(bags, targets, known, at_once=at_once)
        return self.graphs.losses_and_logits(self.plain, bags, targets, known)

    def of_rows(self, rows: Sequence[int]) -> ParameterStack:
        """A stack of some of the models, in new tensors. It records anew, because its graphs hold the old ones."""
        self.graphs.forget()
        return GraphedStack(self.plain.of_rows(rows), self.graphs)

    def with_values(self, values: dict[str, Tensor]) -> ParameterStack:
        """A stack of the same architecture that holds these tensors [S, ...], without graphs."""
        return self.plain.with_values(values)


def graphs_record(weights: object, of_folds: Replays | None = None) -> dict[str, object] | None:
    """What trial.json says of a training's graphs, of the last process that worked on it; None if it could have none.

    Parameters
    ----------
    of_folds : of the fold stack that the trial belongs to, if it belongs to one.
    """
    if not isinstance(weights, GraphedModel | GraphedStack):
        return None
    graphs = weights.graphs
    each = [graphs.steps, graphs.evaluations, *([of_folds] if of_folds else [])]
    needs = dict.fromkeys(need for one in each for need in one.needs_cpu_for or [])
    return {
        "replayed_steps": graphs.steps.n_replayed,
        "replayed_evaluations": graphs.evaluations.n_replayed,
        **({"replayed_steps_of_folds": of_folds.n_replayed} if of_folds else {}),
        "why_not_more": "; ".join(needs) or graphs.steps.memory.problem,
    }
