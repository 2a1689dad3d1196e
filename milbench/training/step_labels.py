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
    slides : places in `side` of the step's B bags.
    cox : of these bags, if there are Cox tasks.
    factors : [S, T] by which the weights of tasks are multiplied, if they move.

    Attributes
    ----------
    targets, known : [S, n, T] of the whole side. Only the rows of the step's slides are meant.
    """

    cox: CoxBatch | None
    targets: Tensor
    known: Tensor

    def __init__(
        self, side: Side, slides: Sequence[int], *, cox: CoxBatch | None = None, factors: Tensor | None = None
    ) -> None:
        self.slides, self.cox, self._leaves = list(slides), cox, list[tuple[Sequence[int], Tensor]]()
        self._weights_move = factors is not None
        self.targets, self.known = side.targets, side.known
        if cox is not None:
            self.targets = side.targets.index_copy(
                1, torch.tensor(self.slides, device=side.targets.device), cox.targets
            )
        if factors is not None:
            self.known = side.known * factors[:, None].to(side.known)

    def of_group(self, slides: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`targets` and `known` [S, B, T] of some of the step's bags."""
        known = self.known[:, slides]
        if self._weights_move:  # losses are linear in `known`, so its gradient holds the loss of each task
            self._leaves.append((slides, known.requires_grad_()))
        return self.targets[:, slides], known

    @property
    def weights(self) -> Tensor:
        """`known` [S, B, T] of the step's bags."""
        return self.known[:, self.slides]

    @property
    def n_known(self) -> Tensor:
        """Number [S, T] of the step's bags with a known label."""
        return (self.weights > 0).sum(dim=1)

    def cox_correction(self) -> Tensor:
        """What the losses [S] of the step lack: the Cox losses in place of the terms that stand in for them."""
        if self.cox is None:
            return self.weights.new_zeros(len(self.weights), dtype=torch.float64)
        return (self.weights * (self.cox.losses - self.cox.stand_ins)).double().sum(dim=(1, 2))

    def task_losses(self, divisor: int) -> Tensor:
        """Weighted losses float64 [S, T], summed over the step's bags, after a backward of their sum over `divisor`."""
        gradients = torch.zeros_like(self.known)
        for slides, leaf in self._leaves:
            if leaf.grad is not None:
                gradients[:, slides] = leaf.grad
        losses = gradients[:, self.slides] * divisor
        if self.cox is not None:
            losses = torch.where(self.cox.is_cox, self.cox.losses, losses)
        return (losses * self.weights).double().sum(dim=1)
