"""Followed cost: memory of a training step as it is taken, alone or in a stack, found before the first step.

A single model on a CPU goes through a large bag in blocks and makes few results of all patches. A stack makes all of them,
and so does a GPU. So each way has a cost of its own. That of a single model on a CPU is estimated from what autograd keeps
(`activations.py`). The other is followed result by result, through the steps of a stack of two on two small bags.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.func import vmap

from milbench.layout import Inputs, Patches, stacked
from milbench.models import MILModel
from milbench.training.activations import BEYOND, MEASURED_AT, activation_cost
from milbench.training.live_bytes import LiveBytes, Trace
from milbench.training.step_cost import FollowedCost, StepCost
from milbench.training.weights import OneModel, ParameterStack, weights_of

CPU = torch.device("cpu")

MEMBERS = 2
"""Models of the stack that is followed."""

BETWEEN = 576
"""Patches of a bag that is followed if the two of `MEASURED_AT` take other operations, and then that of `BEYOND` patches."""

POINTS = (*MEASURED_AT, 3600, 14_400, 57_600)
"""Patches of the bags that the cost is found for."""

HOLES = 2.25
"""Memory of a CPU's process for each byte that a step's tensors hold. Steps leave holes in the heap that the next results do
not fit into. After 3 to 40 steps, stacks of three took 0.9 to 2.4 times the bytes."""

HOLES_ALONE = 1.5
"""The same for each byte that `activation_cost` estimates. Single models took up to 1.9 times the bytes. Products and blocks take
up to 40 MB more, which are in what a worker keeps for itself."""


def step_cost(model: MILModel, device: torch.device, *, in_stack: bool, own_bags: bool = False) -> StepCost:
    """Cost of a training step of `model`, which stays as it is, like torch's random state.

    Everything is found on the CPU, in float32; a step in bf16 needs less. A model that cannot be trained in a stack has the
    cost of a single one there too.

    Parameters
    ----------
    device : that the step will be taken on.
    in_stack : whether it will be trained in a stack. If not, its cost there is not followed, except for a GPU.
    own_bags : whether each model of the stack has a bag of its own, as folds do.
    """
    step, line = _on_own_bags if own_bags else _together, activation_cost(model)
    if device.type != "cpu":  # there, a single model makes whole results too
        whole = _followed_if_possible(model, step, 1.0) or line
        return StepCost(whole, whole)
    alone = line.times(HOLES_ALONE)
    return StepCost(alone, (_followed_if_possible(model, step, HOLES) if in_stack else None) or alone)


Step = Callable[[OneModel | ParameterStack, Patches, Tensor, Tensor], None]
"""Computes the gradients of weights from a bag, targets and known labels."""


def _followed_if_possible(model: MILModel, step: Step, factor: float) -> FollowedCost | None:
    """The cost in a stack, or None if the model takes no step in one: an LSTM, say, of which `vmap` knows nothing.

    It may be trained alone all the same, and then needs its limit.
    """
    try:
        return _followed(model, step, MEMBERS, factor)
    except Exception:  # noqa: BLE001 - whatever a model does under `vmap`
        return None


def _followed(model: MILModel, step: Step, n_models: int, factor: float) -> FollowedCost:
    """Cost of each of the models that take a step together. It never falls with the number of patches."""
    (of_small, gradients), (of_large, _) = (_trace(model, step, n_models, n) for n in MEASURED_AT)
    small, large = MEASURED_AT
    bags = [Followed(small, of_small), Followed(large, of_large)]
    pairs = [(bags[0], bags[1])]
    for third in (BETWEEN, BEYOND):  # small bags may go a way of their own: they say little of large ones
        if not _are_alike(*pairs[-1]):
            bag = Followed(third, _trace(model, step, n_models, third)[0])
            pair = (min(bag, bags[1]), max(bag, bags[1]))
            if third == BEYOND or _are_alike(*pair):
                pairs.append(pair)

    def of_all(n: int) -> float:
        measured = next((bag.trace.most() for bag in bags if bag.n_patches == n), None)
        return max(_beyond(*pair, n) for pair in pairs) if measured is None else measured

    found = accumulate((max(0, of_all(n) - gradients) * factor / n_models for n in POINTS), max)
    return FollowedCost(tuple(zip(POINTS, found, strict=True)))


class Followed(NamedTuple):
    """Trace of a step on a bag of so many patches."""

    n_patches: int
    trace: Trace


def _are_alike(few: Followed, many: Followed) -> bool:
    """Whether both steps took the same operations."""
    return few.trace.events == many.trace.events


def _beyond(few: Followed, many: Followed, n_patches: int) -> float:
    """What all models would hold of a larger bag, by the traces of two."""
    expected = few.trace.at(few.n_patches, many.trace, many.n_patches, n_patches)
    if expected is not None:
        return expected.most()
    low, high = few.trace.most(), many.trace.most()  # all that is known is what the two bags took
    return high + max(0, high - low) * (n_patches - many.n_patches) / (many.n_patches - few.n_patches)


def _trace(model: MILModel, step: Step, n_models: int, n_patches: int) -> tuple[Trace, int]:
    """Trace of a step, and bytes of the gradients that it leaves."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        twin = copy.deepcopy(model).to(CPU)
        twin.zero_grad(set_to_none=True)
        weights = weights_of([twin] * n_models, "float32", CPU)
        weights.model.train()
        bag = twin.bag_like(torch.zeros(n_patches, model.in_features))
        targets = torch.zeros(n_models, 1, model.n_tasks)
        known = (
            *bag.tensors,
            *weights.named_parameters().values(),
            *weights.model.parameters(),
            *weights.model.buffers(),
        )
        with LiveBytes(known) as live:
            step(weights, bag, targets, torch.ones_like(targets))
    return live.trace.copy(), sum(
        each.grad.nbytes for each in weights.named_parameters().values() if each.grad is not None
    )


def _together(weights: OneModel | ParameterStack, bag: Patches, targets: Tensor, known: Tensor) -> None:
    weights.forward_backward([bag], targets, known, 1, at_once=weights.n_models, recompute=False)


def _on_own_bags(weights: OneModel | ParameterStack, bag: Patches, targets: Tensor, known: Tensor) -> None:
    """As a fold stack takes it: the bags of all models side by side in a copy, random numbers of each model's own."""
    stack = cast(ParameterStack, weights)
    with_loss = stack.borrower.with_loss

    def of_trial(weights: Sequence[Tensor], target: Tensor, mask: Tensor, given: Inputs) -> tuple[Tensor, Tensor]:
        with stack.lender.lent(weights):
            return with_loss.of_bag(target, mask, *given)

    stacked_weights, own = list(stack.parameters.values()), (targets[:, 0], known[:, 0])
    bags = stacked([stack.model.inputs(bag)] * stack.n_models)
    losses, logits = vmap(of_trial, randomness="different")(stacked_weights, *own, bags)
    with_loss.completed(losses, logits, *own).sum().backward()  # type: ignore[no-untyped-call]
