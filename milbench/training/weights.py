"""Weights: one model, or S models of one architecture stacked in tensors [S, ...]; losses and gradients of bags for all.

Both kinds offer the same few members, so that the trainer needs no case for either. Members of a stack share their
random numbers, as S models do that are trained one after the other from one seed: a member's dropout masks
are those that it would draw alone, and it ends where it would have ended alone, but for rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from milbench.models import BagOutput, MILModel
from milbench.training.activations import recomputing
from milbench.training.precision import arithmetic, as_float32
from milbench.training.randomness import current, restore

OfBag = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Bag [N, D], targets [T], known [T] -> loss and logits [T]."""


class Weights(Protocol):
    """What is trained.

    Attributes
    ----------
    model : the architecture; a stack only borrows its parameters.
    n : number S of members.
    """

    model: MILModel

    @property
    def n(self) -> int: ...

    def named_parameters(self) -> dict[str, Tensor]:
        """Leaf tensors that the optimiser moves."""
        ...

    def stacked(self) -> dict[str, Tensor]:
        """The same values, [S, ...], without gradient; views."""
        ...

    def backward(
        self, bags: Sequence[Tensor], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        """Losses [S], summed over B bags of one size, whose gradients over `divisor` were added to the parameters'.

        Parameters
        ----------
        bags : B tensors float32 [N, D] on the device.
        targets, known : [S, B, T].
        at_once : members that go through together.
        recompute : keep less for the backward, and compute it again there; members go one by one.
        """
        ...

    def losses_and_logits(
        self, bags: Sequence[Tensor], targets: Tensor, known: Tensor, *, at_once: int
    ) -> tuple[Tensor, Tensor]:
        """Losses [S, B] and logits [S, B, T]; shapes as for `backward`."""
        ...


class OneModel:
    """A single model, trained in place."""

    n = 1

    def __init__(self, model: MILModel, precision: str, device: torch.device) -> None:
        self.model = model.to(device)
        self.with_loss = _WithLoss(self.model, precision, device)

    def named_parameters(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def stacked(self) -> dict[str, Tensor]:
        return {name: p.detach()[None] for name, p in self.named_parameters().items()}

    def backward(
        self,
        bags: Sequence[Tensor],
        targets: Tensor,
        known: Tensor,
        divisor: int,
        *,
        at_once: int,
        recompute: bool,
    ) -> Tensor:
        with recomputing(self.model) if recompute else nullcontext():
            loss = _of_bags(self.with_loss.forward, bags, targets[0], known[0])[0].sum()
            (loss / divisor).backward()  # type: ignore[no-untyped-call]
        return loss.detach()[None]

    def losses_and_logits(
        self,
        bags: Sequence[Tensor],
        targets: Tensor,
        known: Tensor,
        *,
        at_once: int,
    ) -> tuple[Tensor, Tensor]:
        losses, logits = _of_bags(self.with_loss.forward, bags, targets[0], known[0])
        return losses[None], logits[None]


class Stack:
    """S models of one architecture, trained with one forward, one backward and one optimiser step.

    Buffers are taken to be the architecture's, the same in every member: a model keeps no state between calls.
    """

    def __init__(self, models: Sequence[MILModel], precision: str, device: torch.device) -> None:
        self.borrowed = OneModel(copy.deepcopy(models[0]), precision, device)
        self.model, self.device = self.borrowed.model, device
        each = [dict(model.named_parameters()) for model in models]
        self.parameters = {
            name: torch.stack([own[name].detach() for own in each]).to(device).requires_grad_()
            for name in self.borrowed.named_parameters()
        }

    @property
    def n(self) -> int:
        """Number of members."""
        return len(next(iter(self.parameters.values())))

    def named_parameters(self) -> dict[str, Tensor]:
        return self.parameters

    def stacked(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.parameters.items()}

    def backward(
        self, bags: Sequence[Tensor], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        sums, start = [], current(self.device)
        for members in slices(self.n, 1 if recompute else at_once):
            restore(start, self.device)  # every member draws what it would draw alone
            if members.stop - members.start == 1:
                sums.append(self._backward_of_one(members, bags, targets, known, divisor, recompute=recompute))
                continue
            losses, _ = self._together(members, bags, targets[members], known[members])
            (losses.sum() / divisor).backward()  # type: ignore[no-untyped-call]
            sums.append(losses.detach().sum(dim=1))
        return torch.cat(sums)

    def losses_and_logits(
        self, bags: Sequence[Tensor], targets: Tensor, known: Tensor, *, at_once: int
    ) -> tuple[Tensor, Tensor]:
        parts = [self._together(m, bags, targets[m], known[m]) for m in slices(self.n, at_once)]
        return torch.cat([losses for losses, _ in parts]), torch.cat([logits for _, logits in parts])

    def _together(
        self, members: slice, bags: Sequence[Tensor], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        def of_member(weights: dict[str, Tensor], target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            return _of_bags(_called_with(self.borrowed.with_loss, weights), bags, target, mask)

        all_of_them = members == slice(0, self.n)  # a slice of a leaf costs its gradient a copy
        weights = self.parameters if all_of_them else {name: p[members] for name, p in self.parameters.items()}
        return vmap(of_member, randomness="same")(weights, targets, known)  # type: ignore[no-any-return]

    def _backward_of_one(
        self, one: slice, bags: Sequence[Tensor], targets: Tensor, known: Tensor, divisor: int, *, recompute: bool
    ) -> Tensor:
        """One member through a model that borrows its weights: recomputing needs a model that owns them."""
        i = one.start
        for name, own in self.borrowed.named_parameters().items():
            own.data, own.grad = self.parameters[name].detach()[i], None
        loss = self.borrowed.backward(bags, targets[one], known[one], divisor, at_once=1, recompute=recompute)
        for name, own in self.borrowed.named_parameters().items():
            if own.grad is not None:
                stacked = self.parameters[name]
                stacked.grad = torch.zeros_like(stacked) if stacked.grad is None else stacked.grad
                stacked.grad[i] += own.grad
        return loss

    def kept(self, members: Sequence[int]) -> Stack:
        """A stack of some of the members, in new tensors."""
        smaller = copy.copy(self)
        smaller.parameters = {name: p.detach()[list(members)].requires_grad_() for name, p in self.parameters.items()}
        return smaller

    def with_values(self, values: dict[str, Tensor]) -> Stack:
        """A stack of the same architecture that holds these tensors [S, ...]."""
        other = copy.copy(self)
        other.parameters = values
        return other


def weights_of(models: Sequence[MILModel], precision: str, device: torch.device) -> OneModel | Stack:
    """The one model, trained in place, or a stack of copies."""
    return OneModel(models[0], precision, device) if len(models) == 1 else Stack(models, precision, device)


class _WithLoss(nn.Module):
    """Loss and logits of one bag: a model's loss may use its weights too, so both must see the same."""

    def __init__(self, model: MILModel, precision: str, device: torch.device) -> None:
        super().__init__()
        self.model, self.precision, self.device = model, precision, device

    def forward(self, bag: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(bag) if self.precision != "bf16" else self._in_bf16(bag)
        return self.model.loss(output, target, known), output.logits

    def _in_bf16(self, bag: Tensor) -> BagOutput:
        with arithmetic(self.precision, self.device):
            output: BagOutput = self.model(bag)
        return as_float32(output)


def _called_with(module: nn.Module, weights: dict[str, Tensor]) -> OfBag:
    """`module` as a function, with other weights of its model."""
    named = {f"model.{name}": weight for name, weight in weights.items()}
    return lambda bag, target, known: functional_call(module, named, (bag, target, known))  # type: ignore[no-any-return]


def _of_bags(of_bag: OfBag, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [B] and logits [B, T] of bags of one size, for one member."""
    if len(bags) == 1:  # a big bag alone: vmap would only add its overhead
        loss, logits = of_bag(bags[0], targets[0], known[0])
        return loss[None], logits[None]
    return vmap(of_bag, randomness="different")(torch.stack(list(bags)), targets, known)  # type: ignore[no-any-return]


def slices(n: int, at_once: int) -> Iterator[slice]:
    """Members 0..n-1 in slices of at most `at_once`."""
    for start in range(0, n, at_once):
        yield slice(start, min(start + at_once, n))
