"""Weights: one model, or S models of one architecture stacked in tensors [S, ...]; losses and gradients of bags for all.

Both kinds offer the same few methods, so that the learner needs no case for either. The models of a stack share their
random numbers, as S models do that are trained one after the other from one seed. So each model's dropout masks are
those that it would draw alone. Training models together does not change their results, except for floating-point
rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import vmap

from milbench.layout import Inputs, Patches, refuse_misfit, stacked
from milbench.models import BagOutput, MILModel
from milbench.training.activations import recomputing
from milbench.training.lender import Lender
from milbench.training.precision import arithmetic, as_float32
from milbench.training.randomness import DrawnAgain


class Weights(Protocol):
    """What is trained.

    Attributes
    ----------
    model : the architecture. A stack lends it the parameters of one of its models at a time.
    n_models : number S of models.
    """

    model: MILModel

    @property
    def n_models(self) -> int: ...

    def named_parameters(self) -> dict[str, Tensor]:
        """Leaf tensors that the optimiser moves."""
        ...

    def values_per_trial(self) -> dict[str, Tensor]:
        """Views [S, ...] of the same values, without gradient."""
        ...

    def forward_backward(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        """Losses [S], summed over B bags of one size. Their gradients over `divisor` are added to the parameters'.

        Parameters
        ----------
        bags : B of them, N patches each, features float32 on the device.
        targets, known : [S, B, T].
        at_once : models that a bag goes through together.
        recompute : keep less for the backward, and compute it again there. Models then take their turns one by one.
        """
        ...

    def losses_and_logits(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, *, at_once: int
    ) -> tuple[Tensor, Tensor]:
        """Losses [S, B] and logits [S, B, T]; shapes as for `forward_backward`."""
        ...


class OneModel:
    """A single model, trained in place."""

    n_models = 1

    def __init__(self, model: MILModel, precision: str, device: torch.device) -> None:
        self.model = model.to(device)
        self.with_loss = _ModelWithLoss(self.model, precision, device)

    def named_parameters(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def values_per_trial(self) -> dict[str, Tensor]:
        return {name: p.detach()[None] for name, p in self.named_parameters().items()}

    def forward_backward(
        self,
        bags: Sequence[Patches],
        targets: Tensor,
        known: Tensor,
        divisor: int,
        *,
        at_once: int,
        recompute: bool,
    ) -> Tensor:
        with recomputing(self.model) if recompute else nullcontext():
            losses, _ = self._of_bags(bags, targets[0], known[0])
            loss = losses.sum()
            (loss / divisor).backward()  # type: ignore[no-untyped-call]
        return loss.detach()[None]

    def losses_and_logits(
        self,
        bags: Sequence[Patches],
        targets: Tensor,
        known: Tensor,
        *,
        at_once: int,
    ) -> tuple[Tensor, Tensor]:
        losses, logits = self._of_bags(bags, targets[0], known[0])
        return losses[None], logits[None]

    def _of_bags(self, bags: Sequence[Patches], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        losses, logits = _of_bags(self.with_loss, [self.model.inputs(bag) for bag in bags], targets, known)
        return self.with_loss.completed(losses, logits, targets, known), logits


class ParameterStack:
    """S models of one architecture, trained with one forward, one backward and one optimiser step.

    All use the buffers of the first model: a model keeps no state between calls, so they are the same in each.
    """

    def __init__(self, models: Sequence[MILModel], precision: str, device: torch.device) -> None:
        self.borrower = OneModel(copy.deepcopy(models[0]), precision, device)
        self.model, self.device = self.borrower.model, device
        each = [dict(model.named_parameters()) for model in models]
        self.parameters = {
            name: torch.stack([own[name].detach() for own in each]).to(device).requires_grad_()
            for name in self.borrower.named_parameters()
        }
        self.lender = Lender(self.model, self.parameters)
        is_whole = len(self.parameters) == len(list(self.model.parameters()))  # none of them is frozen
        self.has_short_cut = (
            is_whole and not self.model.has_hooks() and precision != "bf16" and "of_stack" in type(self.model).__dict__
        )

    @property
    def n_models(self) -> int:
        """Number S of models."""
        return len(next(iter(self.parameters.values())))

    def named_parameters(self) -> dict[str, Tensor]:
        return self.parameters

    def values_per_trial(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.parameters.items()}

    def forward_backward(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int, *, at_once: int, recompute: bool
    ) -> Tensor:
        losses = []
        for rows in self._in_turns(1 if recompute else at_once):
            if rows.stop - rows.start == 1:
                own = self._forward_backward_of_one(rows, bags, targets, known, divisor, recompute=recompute)
            else:
                own = self._forward_backward_together(rows, bags, targets, known, divisor)
            losses.append(own)
        return torch.cat(losses)

    def losses_and_logits(
        self, bags: Sequence[Patches], targets: Tensor, known: Tensor, *, at_once: int
    ) -> tuple[Tensor, Tensor]:
        parts = [self._together(rows, bags, targets, known) for rows in self._in_turns(at_once)]
        return torch.cat([losses for losses, _ in parts]), torch.cat([logits for _, logits in parts])

    def _in_turns(self, at_once: int) -> Iterator[slice]:
        """Rows of at most `at_once` models. Every model draws what it would draw alone."""
        turns = list(slices(self.n_models, at_once))
        start = DrawnAgain(self.device) if len(turns) > 1 else None
        for rows in turns:
            if start:
                start.rewind()
            yield rows

    def _forward_backward_together(
        self, rows: slice, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int
    ) -> Tensor:
        losses, _ = self._together(rows, bags, targets, known)
        (losses.sum() / divisor).backward()  # type: ignore[no-untyped-call]
        return losses.detach().sum(dim=1)

    def _together(self, rows: slice, bags: Sequence[Patches], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [rows, B] and logits [rows, B, T] of some of the models."""
        is_all = rows == slice(0, self.n_models)  # a slice of a leaf costs its gradient a copy
        weights = [p if is_all else p[rows] for p in self.parameters.values()]
        found = self._by_short_cut(weights, bags, targets[rows], known[rows])
        if found is not None:
            return found
        inputs = [self.model.inputs(bag) for bag in bags]

        def of_one(weights: Sequence[Tensor], target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            with self.lender.lent(weights):
                return _of_bags(self.borrower.with_loss, inputs, target, mask)

        losses, logits = vmap(of_one, randomness="same")(weights, targets[rows], known[rows])
        return self.borrower.with_loss.completed(losses, logits, targets[rows], known[rows]), logits

    def _by_short_cut(
        self, weights: Sequence[Tensor], bags: Sequence[Patches], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """What the model's class finds by an `of_stack` of its own."""
        if not self.has_short_cut:
            return None
        features = [bag.features for bag in bags]
        refuse_misfit(type(self.model).__name__, features, self.model.in_features, None)
        with self.lender.lent(weights):
            return self.model.of_stack(features, targets, known)

    def _forward_backward_of_one(
        self, row: slice, bags: Sequence[Patches], targets: Tensor, known: Tensor, divisor: int, *, recompute: bool
    ) -> Tensor:
        """Loss [1] of one model. A module borrows the model's weights: recomputing needs a module that owns them."""
        i = row.start
        for name, own in self.borrower.named_parameters().items():
            own.data, own.grad = self.parameters[name].detach()[i], None
        loss = self.borrower.forward_backward(bags, targets[row], known[row], divisor, at_once=1, recompute=recompute)
        for name, own in self.borrower.named_parameters().items():
            if own.grad is not None:
                stacked = self.parameters[name]
                stacked.grad = torch.zeros_like(stacked) if stacked.grad is None else stacked.grad
                stacked.grad[i] += own.grad
        return loss

    def of_rows(self, rows: Sequence[int]) -> ParameterStack:
        """A stack of some of the models, in new tensors."""
        smaller = copy.copy(self)
        smaller.parameters = {name: p.detach()[list(rows)].requires_grad_() for name, p in self.parameters.items()}
        return smaller

    def with_values(self, values: dict[str, Tensor]) -> ParameterStack:
        """A stack of the same architecture that holds these tensors [S, ...]."""
        other = copy.copy(self)
        other.parameters = values
        return other


def weights_of(models: Sequence[MILModel], precision: str, device: torch.device) -> OneModel | ParameterStack:
    """The one model, trained in place, or a stack of copies."""
    return OneModel(models[0], precision, device) if len(models) == 1 else ParameterStack(models, precision, device)


class _ModelWithLoss(nn.Module):
    """Loss and logits of one bag. A model's loss may use its weights too, so forward and loss must see the same ones."""

    def __init__(self, model: MILModel, precision: str, device: torch.device) -> None:
        super().__init__()
        self.model, self.precision, self.device = model, precision, device

    def forward(self, target: Tensor, known: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = self._output(*inputs)
        return self.model.loss(output, target, known), output.logits

    @property
    def has_usual_loss(self) -> bool:
        """Whether the loss is the base class's of binary tasks, which takes the logits of any number of bags."""
        own = type(self.model)
        is_usual = own.loss is MILModel.loss and own.task_losses is MILModel.task_losses
        return is_usual and self.model.outputs.all_binary

    def of_bag(self, target: Tensor, known: Tensor, *inputs: Any) -> tuple[Tensor, Tensor]:
        """As `forward`, but without the usual loss, which `completed` computes of all bags with a tenth of the operations."""
        if not self.has_usual_loss:
            return self(target, known, *inputs)  # type: ignore[no-any-return]
        logits = self._output(*inputs).logits
        return logits.new_zeros(()), logits

    def completed(self, losses: Tensor, logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        """Losses [...] of bags whose `of_bag` gave `losses` [...] and `logits` [..., W]; targets, known [..., T]."""
        if not self.has_usual_loss:
            return losses
        return (self.model.task_losses(logits, targets) * known).sum(dim=-1)

    def _output(self, *inputs: Any) -> BagOutput:
        return self.model(*inputs) if self.precision != "bf16" else self._in_bf16(*inputs)  # type: ignore[no-any-return]

    def _in_bf16(self, *inputs: Any) -> BagOutput:
        with arithmetic(self.precision, self.device):
            output: BagOutput = self.model(*inputs)
        return as_float32(output)


def _of_bags(model: _ModelWithLoss, inputs: Sequence[Inputs], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [B], which `completed` completes, and logits [B, T] of bags of one size, for one model."""
    if len(inputs) == 1:  # a big bag alone: vmap would only add its overhead
        loss, logits = model.of_bag(targets[0], known[0], *inputs[0])
        return loss[None], logits[None]
    return vmap(model.of_bag, randomness="different")(targets, known, *stacked(inputs))  # type: ignore[no-any-return]


def slices(n: int, at_once: int) -> Iterator[slice]:
    """Rows 0..n-1 in slices of at most `at_once`."""
    for start in range(0, n, at_once):
        yield slice(start, min(start + at_once, n))
