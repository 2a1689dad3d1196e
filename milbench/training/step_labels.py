"""Step labels: targets and weights of a step's bags, with what belongs to the whole step put in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from milbench.training.cox_tasks import CoxBatch
from milbench.training.side import Side


class StepLabels:
    """What the losses of a step's bags see.

    Parameters
    ----------
    side : that the step learns from.
    slides : of the step's B bags, by their places in `side`; a slide may occur twice.
    cox : of these bags, if there are Cox tasks.
    factors : [S, T] by which the weights of tasks are multiplied, if they move.

    Attributes
    ----------
    targets, known : [S, B, T] of the step's bags.
    """

    cox: CoxBatch | None
    targets: Tensor
    known: Tensor

    def __init__(
        self, side: Side, slides: Sequence[int], *, cox: CoxBatch | None = None, factors: Tensor | None = None
    ) -> None:
        self.cox, self._leaves = cox, list[tuple[Sequence[int], Tensor]]()
        self._weights_move = factors is not None
        self.targets = _at(side.targets, slides) if cox is None else cox.targets
        self.known = _at(side.known, slides)
        if factors is not None:
            self.known = self.known * factors[:, None].to(self.known)

    def of_group(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`targets` and `known` [S, b, T] of the step's bags at these places."""
        known = _at(self.known, places)
        if self._weights_move:  # losses are linear in `known`, so its gradient holds the loss of each task
            known = known.detach().requires_grad_()
            self._leaves.append((places, known))
        return _at(self.targets, places), known

    @property
    def n_known(self) -> Tensor:
        """Number [S, T] of the step's bags with a known label."""
        return (self.known > 0).sum(dim=1)

    def cox_correction(self) -> Tensor:
        """What the losses [S] of the step lack: the Cox losses in place of the terms that stand in for them."""
        if self.cox is None:
            return self.known.new_zeros(len(self.known), dtype=torch.float64)
        return (self.known * (self.cox.losses - self.cox.stand_ins)).double().sum(dim=(1, 2))

    def task_losses(self, divisor: int) -> Tensor:
        """Weighted losses float64 [S, T], summed over the step's bags, after a backward of their sum over `divisor`."""
        gradients = torch.zeros_like(self.known)
        for places, leaf in self._leaves:
            if leaf.grad is not None:
                gradients[:, list(places)] = leaf.grad
        losses = gradients * divisor
        if self.cox is not None:
            losses = torch.where(self.cox.is_cox, self.cox.losses, losses)
        return (losses * self.known).double().sum(dim=1)


def _at(values: Tensor, places: Sequence[int]) -> Tensor:
    """`values` [S, B, T] at these places; of one place a view, because on a GPU a list of places waits for all earlier work."""
    return values[:, places[0] : places[0] + 1] if len(places) == 1 else values[:, list(places)]
