"""Step graphs: forward, loss and backward of one bag, recorded once per trial and size of bag, and replayed by one launch.

Models of several tasks have no stack. On a fast GPU they wait for the launches of their many operations. Each slide has its
own number of patches, and comes back in every epoch:

=================  ==========================================================================================
first visit        the step is taken as always: it fills caches, loads kernels, and gives the stream its workspaces
second visit       the step is recorded over tensors that stay where they are, and replayed
all later visits   the bag and its labels are copied into these tensors, and the step is replayed
=================  ==========================================================================================

Steps that a graph cannot hold are taken as always: those of several bags, of stacks, those that recompute activations, and
all of a model that needs the CPU for a step (`host_reads.py`). Clipping, the optimiser and all checks stay outside. So the
optimiser's rate stays a number of 64 bits; as a tensor, which a graph would need, it would be rounded.

A graph stays until training ends, and none is recorded when memory gets short. A rule that lets the least recently used one
go would help nobody: an epoch visits each bag once, so it would let graphs go shortly before they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from milbench.layout import Patches
from milbench.training.host_reads import host_reads
from milbench.training.learner import Learner
from milbench.training.weights import OneModel

Size = tuple[tuple[torch.Size, torch.dtype], ...]
"""Shape and dtype of each tensor of a bag."""


class Recorder(Protocol):
    """What records work on a device, and plays it again."""

    def session(self) -> AbstractContextManager[None]:
        """Inside, work can be recorded and replayed."""
        ...

    def has_room(self) -> bool:
        """Whether there is memory for one more recording."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Replay of `work`: it does again what `work` does to tensors, wherever the generators of torch are by then.

        What `work` reads and writes stays where it is. What it writes while it is recorded means nothing.

        Raises
        ------
        Exception : `work` cannot be recorded, or memory ran out. Nothing more must be recorded.
        """
        ...


class StepGraphs:
    """Graphs of the single models of one pass, and the tensors through which all of them get their bags.

    Attributes
    ----------
    is_open : whether steps may be recorded and replayed.
    problem : why recording ended before training did; "" if it did not.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.is_open, self.problem = True, ""
        self._models: list[GraphedModel] = []
        self._rooms: dict[tuple[int, torch.dtype], Tensor] = {}

    @contextmanager
    def used_by(self, learners: Sequence[Learner]) -> Iterator[None]:
        """Inside, learners of one model replay their steps. Afterwards all graphs are gone."""
        for learner in learners:
            if isinstance(learner.weights, OneModel):
                learner.weights = self.of(learner.weights)
                learner.step_memory.let_go = self.let_go
        try:
            with self.recorder.session():
                yield
        finally:
            self._forget()

    def of(self, weights: OneModel) -> GraphedModel:
        """The same model, which replays its steps."""
        self._models.append(GraphedModel(weights, self))
        return self._models[-1]

    def let_go(self) -> bool:
        """Whether there were graphs, whose memory steps may now have. There will be no others."""
        had_any = any(model.n_graphs for model in self._models)
        if had_any:
            self.end("memory ran out")
        return had_any

    def end(self, problem: str) -> None:
        """Forget all graphs, and take all further steps as always."""
        self.problem = problem
        self._forget()

    def _forget(self) -> None:
        self.is_open = False
        for model in self._models:
            model.forget()
        self._rooms.clear()

    def place_for(self, bag: Patches) -> Patches:
        """Tensors like those of the bag, that stay where they are. All bags of all models go through the same memory.

        If a bag is too large for it, new memory of twice the bag's size is made. Graphs keep what they were recorded with.
        """
        number = iter(range(len(bag.tensors)))
        return bag.each(lambda tensor: self._room(next(number), tensor))

    def _room(self, number: int, like: Tensor) -> Tensor:
        room = self._rooms.get((number, like.dtype))
        if room is None or room.numel() < like.numel():
            room = self._rooms[number, like.dtype] = like.new_empty(2 * like.numel())
        return room[: like.numel()].view(like.shape)


class GraphedModel(OneModel):
    """A single model whose steps are replayed where a graph can hold them. Results are those of the same operations.

    Parameters
    ----------
    plain : the model. It shares everything with this one.

    Attributes
    ----------
    n_replayed : steps that were replayed.
    needs_cpu_for : what its first step needed the CPU for; if anything, no step is recorded. None = none was taken.
    """

    def __init__(self, plain: OneModel, graphs: StepGraphs) -> None:
        self.model, self.with_loss = plain.model, plain.with_loss
        self.graphs, self.n_replayed = graphs, 0
        self.needs_cpu_for: list[str] | None = None
        self._seen: set[Size] = set()
        self._steps: dict[Size, _Step] = {}
        self._shared: _Shared | None = None

    @property
    def n_graphs(self) -> int:
        """Number of its graphs."""
        return len(self._steps)

    def forget(self) -> None:
        """Let all graphs go."""
        self._steps.clear()
        self._shared = None

    def forward_backward(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        as_always = partial(
            super().forward_backward, bags, targets, known, divisor, at_once=at_once, recompute=recompute
        )
        if divisor > 1 or recompute or not self.graphs.is_open:
            return as_always()
        size = tuple((tensor.shape, tensor.dtype) for tensor in bags[0].tensors)
        if size not in self._seen:
            losses = self._watched(as_always, targets.device) if self.needs_cpu_for is None else as_always()
            self._seen.add(size)  # not if it raised: memory may have run out, and the same step comes again
            return losses
        step = self._step_of(size, bags[0], targets, known)
        if step is None:
            return as_always()
        self.n_replayed += 1
        step.take_in(bags[0], targets, known)
        return step.replayed(known)

    def _watched(self, step: Callable[[], Tensor], device: torch.device) -> Tensor:
        """Losses of the model's first step, which shows whether others can be recorded."""
        with host_reads(device) as found:
            losses = step()
        self.needs_cpu_for = found
        return losses

    def _step_of(self, size: Size, bag: Patches, targets: Tensor, known: Tensor) -> _Step | None:
        """The recorded step of this size; None if there can be none."""
        if size not in self._steps and not self.needs_cpu_for and self.graphs.recorder.has_room():
            self._record(size, bag, targets, known)
        return self._steps.get(size)

    def _record(self, size: Size, bag: Patches, targets: Tensor, known: Tensor) -> None:
        try:
            self._shared = self._shared or _Shared(self, targets, known)
            step = _Step(self, self._shared, self.graphs.place_for(bag))
            step.take_in(bag, targets, known)  # a recorder may run the work, which needs a bag that makes sense
            step.replay = self.graphs.recorder.record(step.work)
        except Exception as error:  # noqa: BLE001 - as always the step may do; if not, it raises there
            self.graphs.end(f"{type(error).__name__}: {error}")
        else:
            self._steps[size] = step


def graphs_record(weights: object) -> dict[str, object] | None:
    """What trial.json says of a training's graphs, of the last process that worked on it; None if it could have none."""
    if not isinstance(weights, GraphedModel):
        return None
    why = "; ".join(weights.needs_cpu_for or []) or weights.graphs.problem
    return {"replayed_steps": weights.n_replayed, "why_not_more": why}


class _Shared:
    """What all graphs of one model read and write besides the bag: labels [1, 1, T], gradients and loss [1].

    Attributes
    ----------
    weights_move : whether weights of tasks follow their losses, which are in the gradient of `known` (`step_labels.py`).
    """

    def __init__(self, weights: OneModel, targets: Tensor, known: Tensor) -> None:
        self.parameters = list(weights.named_parameters().values())
        self.gradients = [torch.empty_like(parameter) for parameter in self.parameters]
        self.targets, self.known, self.of_known = (torch.empty_like(each.detach()) for each in (targets, known, known))
        self.weights_move = known.requires_grad
        self.loss = targets.new_empty(1)

    def leaves(self, known: Tensor) -> list[Tensor]:
        """What gradients are taken by."""
        return [*self.parameters, known] if self.weights_move else self.parameters

    @property
    def places(self) -> list[Tensor]:
        """Where the gradients of `leaves` go."""
        return [*self.gradients, self.of_known] if self.weights_move else self.gradients


class _Step:
    """One recorded step. Its tensors stay where they are; what it makes on the way has no place of its own.

    Attributes
    ----------
    is_used : for each parameter, whether the loss depends on it. Others get no gradient, as in a backward.
    """

    replay: Callable[[], None]

    def __init__(self, weights: OneModel, shared: _Shared, bag: Patches) -> None:
        self.weights, self.shared, self.bag = weights, shared, bag
        self.is_used: list[bool] = []

    def work(self) -> None:
        """Loss and gradients, for the recorder."""
        shared = self.shared
        known = shared.known.detach().requires_grad_(shared.weights_move)
        losses, _ = self.weights.losses_and_logits([self.bag], shared.targets, known, at_once=1)
        loss = losses.sum()
        # not `backward`: that keeps the stream of a parameter's first gradient, which would have to be the recorder's
        found = torch.autograd.grad(loss, shared.leaves(known), allow_unused=True)
        self.is_used = [gradient is not None for gradient in found]
        places = [place for place, is_used in zip(shared.places, self.is_used, strict=True) if is_used]
        torch._foreach_copy_(places, [gradient for gradient in found if gradient is not None])
        shared.loss.copy_(loss.detach())

    def take_in(self, bag: Patches, targets: Tensor, known: Tensor) -> None:
        """Put a bag of this size, and its labels, where the step reads them."""
        shared = self.shared
        shared.targets.copy_(targets)
        shared.known.copy_(known.detach())
        for place, tensor in zip(self.bag.tensors, bag.tensors, strict=True):
            place.copy_(tensor)

    def replayed(self, known: Tensor) -> Tensor:
        """Loss [1] of what was taken in, with its gradients in place, until the model's next step."""
        shared = self.shared
        self.replay()
        for leaf, gradient, is_used in zip(shared.leaves(known), shared.places, self.is_used, strict=True):
            leaf.grad = gradient if is_used else None
        return shared.loss
