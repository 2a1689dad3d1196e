"""Fold stack: trials that differ in their fold and take their steps together, though each learns from bags of its own.

A model of several tasks has no trials that differ in their task alone. Its folds share model, settings and seed. Each keeps
its learner: weights, optimiser, random numbers, selection and failures are its own. Only forward and backward are one, by
`torch.func.vmap` over the weights of the trials, which lie in one tensor [S, ...].

========================  ===================================================================================
one bag per step          the trials that learn from a bag take their step on it together
several bags per step     trials wait until each has the bags of its next step; if these bags are equally large,
                          the steps are taken together
========================  ===================================================================================

What a trial draws is what it would draw alone (`own_draws.py`). So its results are those that it would have alone, except
for floating-point rounding.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from time import perf_counter
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.func import vmap

from milbench.layout import Inputs, Layout, Patches, stacked
from milbench.training.activations import is_out_of_memory
from milbench.training.bag_groups import IndexedBag, training_groups
from milbench.training.bag_guard import BagGuard
from milbench.training.learner import Learner
from milbench.training.lender import Lender
from milbench.training.own_draws import OwnDraws
from milbench.training.refusals import refuse_changed_buffers
from milbench.training.replays import Replays, Work
from milbench.training.step_labels import StepLabels
from milbench.training.step_memory import StepMemory
from milbench.training.weights import OneModel

MOST_STEPS_WAITING = 4
"""Steps. If a trial has kept the bags of so many while it waits for others, those that can step do so without them."""


class Batch(NamedTuple):
    """The bags of one trial's next step, and the same bags in groups of one size each."""

    learner: Learner
    bags: list[IndexedBag]
    groups: list[list[IndexedBag]]

    @classmethod
    def of(cls, learner: Learner, bags: Sequence[tuple[str, Patches]]) -> Batch:
        """Those of slides and patches."""
        indexed = [
            IndexedBag(learner.train_index[slide_id], place, patches) for place, (slide_id, patches) in enumerate(bags)
        ]
        return cls(learner, indexed, training_groups(indexed))

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Bags and patches of each bag, by group."""
        return tuple((len(group), group[0].n_patches) for group in self.groups)

    def step_alone(self) -> None:
        """Have the learner take its step by itself, or by the end of the epoch if these are its last bags."""
        for bag in self.bags:
            if self.learner.add(self.learner.train.slide_ids[bag.index], bag.patches):
                self.learner.take_step()


class FoldStack:
    """S learners of one trial each that take their steps together where they can.

    Parameters
    ----------
    learners : alike in architecture, recipe, seed, precision, device and memory; none has a Cox task.
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        first = learners[0]
        if any(learner.is_stack or learner.cox or learner.recipe != first.recipe for learner in learners):
            raise ValueError("a fold stack takes single trials of one recipe without Cox tasks")
        self.learners, self.recipe, self.device = list(learners), first.recipe, first.device
        own = [each.weights for each in learners if isinstance(each.weights, OneModel)]
        self.architecture = copy.deepcopy(own[0].with_loss).train()
        self.values = {
            name: torch.stack([dict(each.named_parameters())[name].detach() for each in own])
            for name in own[0].named_parameters()
        }
        for row, each in enumerate(own):
            for name, parameter in each.named_parameters().items():
                parameter.data = self.values[name][row]
        self._parameters = {
            learner: list(each.named_parameters().values()) for learner, each in zip(learners, own, strict=True)
        }
        self._lender = Lender(self.architecture.model, self.values)
        self.bag_guard = BagGuard(type(self.architecture.model).__name__)
        memory = first.step_memory
        self.step_memory = StepMemory(len(learners), self.device, cost=memory.cost, budget_bytes=memory.budget_bytes)
        for learner in learners:  # what one of them finds out, or has in its checkpoint, holds for all
            learner.step_memory = self.step_memory
        self._indices: dict[tuple[int, ...], Tensor] = {}
        self.replays: Replays | None = None  # None = steps are taken as always
        self.members: list[Learner] = []
        self._waiting: dict[Learner, deque[tuple[str, Patches]]] = {}

    @property
    def error(self) -> BaseException | None:
        """The first error of a member. The stack ends with it, and its trials are tried again one by one."""
        return next((learner.error for learner in self.learners if learner.error is not None), None)

    # ---- one epoch -------------------------------------------------------------------------------

    def begin_epoch(self, members: Sequence[Learner]) -> None:
        """Get ready for training bags of these learners, which have begun their epoch."""
        self.members = [learner for learner in self.learners if learner in members]
        self._waiting = {learner: deque() for learner in self.members}

    def add(self, learner: Learner, slide_id: str, patches: Patches) -> None:
        """Have a training bag wait for its learner's next step."""
        self._waiting[learner].append((slide_id, patches))

    def take_steps(self) -> None:
        """Take the steps that need not wait any longer, after all learners were given the bag of one visit."""
        n = self.recipe.bags_per_step
        if n == 1:
            self._round([learner for learner in self.members if self._waiting[learner]])
            return
        while full := [learner for learner in self.members if len(self._waiting[learner]) >= n]:
            longest = max(len(self._waiting[learner]) for learner in full)
            if len(full) < len(self.members) and longest < n * MOST_STEPS_WAITING:
                return
            self._round(full)

    def finish_epoch(self) -> None:
        """Take all steps that are left."""
        while left := [learner for learner in self.members if self._waiting[learner]]:
            self._round(left)

    def _round(self, learners: Sequence[Learner]) -> None:
        """One step of each of these learners."""
        alike: dict[tuple[tuple[int, int], ...], list[Batch]] = {}
        for learner in learners:
            waiting = self._waiting[learner]
            bags = [waiting.popleft() for _ in range(min(self.recipe.bags_per_step, len(waiting)))]
            batch = Batch.of(learner, bags)
            alike.setdefault(batch.sizes, []).append(batch)
        for batches in alike.values():
            self._steps(batches)

    def _steps(self, batches: list[Batch]) -> None:
        """Steps of learners whose bags are equally large, as many at once as memory has room for."""
        sizes = batches[0].sizes
        while batches:
            limits = [self.step_memory.affordable(n_bags * n_patches) for n_bags, n_patches in sizes]
            at_once = 1 if any(recompute for _, recompute in limits) else min(n for n, _ in limits)
            now, later = batches[:at_once], batches[at_once:]
            if len(now) == 1:
                now[0].step_alone()
            elif not self._stepped_together(now):
                self.step_memory.shrink(max(n_patches for _, n_patches in sizes))
                continue
            batches = later

    # ---- one step --------------------------------------------------------------------------------

    def _stepped_together(self, batches: Sequence[Batch]) -> bool:
        """Whether the learners have taken a step together; if memory ran out, none of them has moved."""
        begun, n_bags = perf_counter(), len(batches[0].bags)
        rows = [self.learners.index(batch.learner) for batch in batches]
        labels = [batch.learner.begin_step(batch.bags) for batch in batches]
        marks = [batch.learner.random.mark() for batch in batches]
        try:
            losses, gradients = self._losses_and_gradients(batches, labels, rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            for batch, mark in zip(batches, marks, strict=True):
                batch.learner.random.go_back(mark)
            return False
        by_trial = zip(*([None] * len(rows) if each is None else each.unbind() for each in gradients), strict=True)
        for place, (batch, own, mine) in enumerate(zip(batches, labels, by_trial, strict=True)):
            for parameter, gradient in zip(self._parameters[batch.learner], mine, strict=True):
                parameter.grad = None if gradient is None else gradient.contiguous()
            batch.learner.finish_step(losses[place : place + 1], own, n_bags)
        for batch in batches:
            batch.learner.step_seconds += (perf_counter() - begun) / len(batches)
        return True

    def _of_rows(self, rows: tuple[int, ...]) -> Callable[[], list[Tensor]]:
        """Gives weights of some trials as leaves; no copy if they are those of all."""
        if len(rows) == len(self.learners):
            return lambda: [values.detach().requires_grad_() for values in self.values.values()]
        if rows not in self._indices:  # kept: a recorded step reads it where it is
            self._indices[rows] = torch.tensor(rows, device=self.device)
        index = self._indices[rows]
        return lambda: [values.index_select(0, index).requires_grad_() for values in self.values.values()]

    def _losses_and_gradients(
        self, batches: Sequence[Batch], labels: Sequence[StepLabels], rows: Sequence[int]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Losses float64 [P], summed over the bags of P learners, and gradients [P, ...] of their means by the weights."""
        model, n_bags = self.architecture.model, len(batches[0].bags)
        buffers = [(name, buffer, buffer._version) for name, buffer in model.named_buffers()]
        losses: list[Tensor] = []
        total: list[Tensor | None] = [None] * len(self.values)
        weights = cache(self._of_rows(tuple(rows)))  # once for all groups
        if self.replays is None or n_bags > 1:  # else as a part of the step
            weights()
        with OwnDraws([batch.learner.random for batch in batches]) as draws:
            for groups in zip(*(batch.groups for batch in batches), strict=True):
                each = [own.of_group([bag.place for bag in group]) for own, group in zip(labels, groups, strict=True)]
                targets, known = (torch.cat(values) for values in zip(*each, strict=True))  # [P, B, T]
                with self._lent(groups) as bags:
                    work: Work = partial(self._of_group, draws, n_bags, weights, known.requires_grad)
                    if self.replays is None or n_bags > 1:
                        found = work(bags, targets, known)
                    else:
                        found = self.replays.of(
                            work, bags, [targets, known], among=tuple(rows), generators=draws.generators(),
                            n_bytes=self.step_memory.bytes_of(len(bags[0]), len(rows)),
                        )  # fmt: skip
                of_group, of_known, *gradients = found
                for place, (_, own) in enumerate(each):
                    own.grad = None if of_known is None else of_known[place : place + 1]
                total = [_sum(*pair) for pair in zip(total, gradients, strict=True)]
                losses.append(cast(Tensor, of_group).double())
        refuse_changed_buffers(model, buffers)
        for batch in batches:
            batch.learner.weights.model.asked_for_smoothing |= model.asked_for_smoothing
        return torch.stack(losses).sum(dim=0), total

    @contextmanager
    def _lent(self, groups: Sequence[Sequence[IndexedBag]]) -> Iterator[list[Patches]]:
        """Bags of one size of all trials, trial by trial; one bag if all share it."""
        bags = [bag.patches for group in groups for bag in group]
        if len(groups[0]) == 1 and all(bag.features is bags[0].features for bag in bags):
            with self.bag_guard.lent(bags[:1]):
                yield bags[:1]
            return
        yield bags

    def _of_group(
        self,
        draws: OwnDraws,
        n_bags: int,
        weights: Callable[[], list[Tensor]],
        weights_move: bool,  # noqa: FBT001 - bound by position in front of what work gets
        bags: Sequence[Patches],
        targets: Tensor,
        known: Tensor,
    ) -> list[Tensor | None]:
        """Losses [P] of P trials, summed over their bags of one size, and gradients of their share in the means.

        Returns
        -------
        Losses, their gradient by `known` [P, B, T] if weights of tasks move, and by each of the weights [P, ...].
        """
        leaf, own = known.detach().requires_grad_(weights_move), weights()
        losses = self._losses(draws, own, targets, leaf, *self._inputs(bags, *targets.shape[:2]))
        leaves = [leaf, *own] if weights_move else own
        gradients = torch.autograd.grad(losses.sum() / n_bags, leaves, allow_unused=True)
        return [losses.detach(), *([] if weights_move else [None]), *gradients]

    def _inputs(self, bags: Sequence[Patches], n_trials: int, n_bags: int) -> tuple[Inputs, int | None]:
        """What the model takes of the bags, and the trials' dimension in it: None if all share one bag."""
        if len(bags) == 1:
            return self.architecture.model.inputs(bags[0]), None
        together = stacked([self.architecture.model.inputs(bag) for bag in bags])
        return (together if n_bags == 1 else _each(together, n_trials)), 0

    def _losses(
        self,
        draws: OwnDraws,
        weights: Sequence[Tensor],
        targets: Tensor,
        known: Tensor,
        inputs: Inputs,
        in_dims: int | None,
    ) -> Tensor:
        """Losses [P] of P trials, summed over B bags of one size of each.

        Parameters
        ----------
        targets, known : [P, B, T].
        inputs, in_dims : as `_bags` makes them.
        """
        n_trials, n_bags = targets.shape[:2]
        places = torch.arange(max(n_trials, n_bags), device=self.device)

        def of_trial(
            place: Tensor, own: Sequence[Tensor], target: Tensor, mask: Tensor, given: Inputs
        ) -> Sequence[Tensor]:
            with self._lender.lent(own):
                if n_bags == 1:
                    draws.places(place)
                    return [each[None] for each in self.architecture.of_bag(target[0], mask[0], *given)]

                def of_bag(bag: Tensor, target: Tensor, mask: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
                    draws.places(place, bag, n_bags)
                    return self.architecture.of_bag(target, mask, *given)

                return vmap(of_bag, randomness="different")(places[:n_bags], target, mask, *given)  # type: ignore[no-any-return]

        losses, logits = vmap(of_trial, in_dims=(0, 0, 0, 0, in_dims), randomness="error")(
            places[:n_trials], list(weights), targets, known, inputs
        )
        return self.architecture.completed(losses, logits, targets, known).sum(dim=1)


def _each(inputs: Inputs, n: int) -> Inputs:
    """Inputs [n B, ...] as [n, B, ...]."""

    def parted(tensor: Tensor) -> Tensor:
        return tensor.reshape(n, len(tensor) // n, *tensor.shape[1:])

    features, *layout = inputs
    return (parted(features), *(Layout(*map(parted, own)) for own in layout))  # type: ignore[return-value]


def _sum(so_far: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    if so_far is None or gradient is None:
        return gradient if so_far is None else so_far
    return so_far + gradient
