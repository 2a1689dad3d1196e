"""Task weights: how much each task's loss counts beside the others, where that moves as the trials learn.

=============  =====================================================================================
rule           weight of task t, beside the fixed one in `Side.known`
=============  =====================================================================================
"constant"     1, and "equal" too
"uncertainty"  1 / (2 exp(s_t)); s_t / 2 is added per bag with a known label, and the optimiser moves s_t
"dwa"          T softmax_t(r_t / 2), r_t = training loss of the last epoch / of the epoch before; 1 in two epochs
=============  =====================================================================================

A trial of one task has nothing to weigh, so its weight is 1 under every rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NAME = "task weights"
"""Name of s among the parameters that the optimiser moves; no module can have it."""

TEMPERATURE = 2.0
"""T of dynamic weight averaging (Liu et al., CVPR 2019); with more, weights differ less."""


class TaskWeights:
    """Weights [S, T] of the tasks of S trials.

    Attributes
    ----------
    moves : whether they change as the trials learn.
    s : float32 Tensor [S, T], log variances; None unless the rule is "uncertainty".
    """

    def __init__(self, rule: str, n_trials: int, n_tasks: int, device: torch.device) -> None:
        self.rule = rule if n_tasks > 1 else "constant"
        self.moves = self.rule in {"uncertainty", "dwa"}
        self._dwa = torch.ones(n_trials, n_tasks, device=device)
        is_learned = self.rule == "uncertainty"
        self.s = torch.zeros(n_trials, n_tasks, device=device, requires_grad=True) if is_learned else None

    def named_parameters(self) -> dict[str, Tensor]:
        """What the optimiser moves, without weight decay."""
        return {} if self.s is None else {NAME: self.s}

    @property
    def factors(self) -> Tensor:
        """float32 Tensor [S, T], of the next step."""
        return self._dwa if self.s is None else torch.exp(-self.s.detach()) / 2

    def begin_epoch(self, task_losses: Sequence[Sequence[Sequence[float]]]) -> None:
        """Get ready for an epoch, from the training losses of each trial by epoch and task."""
        if self.rule == "dwa":
            weights = np.stack([_dwa(own, self._dwa.shape[1]) for own in task_losses])
            self._dwa = torch.from_numpy(weights).to(self._dwa)

    def pull(self, task_losses: Tensor, n_known: Tensor, divisor: int) -> Tensor:
        """Losses [S] that s itself adds to a step, whose gradient is now in place.

        Parameters
        ----------
        task_losses : [S, T], weighted, summed over the step's bags.
        n_known : [S, T], bags of the step with a known label.
        divisor : of the step's gradients.
        """
        if self.s is None:
            return torch.zeros_like(task_losses[:, 0])  # nothing moves by gradients
        self.s.grad = ((n_known / 2 - task_losses) / divisor).to(self.s)  # of n (L / (2 exp(s)) + s / 2)
        return (n_known * self.s.detach() / 2).sum(dim=1)

    def shrink_to(self, rows: Sequence[int]) -> None:
        """Keep only the trials in these rows, in new tensors."""
        self._dwa = self._dwa[list(rows)]
        if self.s is not None:
            self.s = self.s.detach()[list(rows)].requires_grad_()


def _dwa(losses: Sequence[Sequence[float]], n_tasks: int) -> NDArray[np.float64]:
    """Weights [T], of sum T, from training losses by epoch and task. A task without a loss counts as one that stands still."""
    if len(losses) < 2:
        return np.ones(n_tasks)
    before, last = np.array(losses[-2:], dtype=np.float64)
    ratio = np.divide(last, before, out=np.ones_like(last), where=before > 0)
    shares = np.exp((ratio - ratio.max()) / TEMPERATURE)
    weights: NDArray[np.float64] = n_tasks * shares / shares.sum()
    return weights
