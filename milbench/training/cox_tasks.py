"""Cox tasks: survival tasks whose loss belongs to the slides of a step, or of a side, together.

Slides are the units at risk: two slides of one patient in a step are two units with one label.
A bag's own loss of such a task is its logit times its target (`endpoints/losses.py`). In a step, targets are the
derivatives of the step's loss. Elsewhere they are 0, so that losses of bags are those of the other tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from milbench.endpoints.cox import CoxLoss, cox_loss
from milbench.endpoints.outputs import Outputs


class CoxBatch(NamedTuple):
    """Cox tasks of one batch of B slides.

    Attributes
    ----------
    targets : [S, B, T]. A Cox task's is the derivative of its loss times the number of its known slides, so that each
        known slide of a step weighs as much as one with a loss of its own. Others are as they were.
    losses : [S, B, T], the batch's loss for each slide whose label is known; 0 elsewhere and for other tasks.
    stand_ins : [S, B, T], logit times target, which models add up in place of `losses`.
    is_cox : bool [T].
    without_event : bool [S, C], whether each of the C Cox tasks has no event in the batch, so no loss and no gradient.
    """

    targets: Tensor
    losses: Tensor
    stand_ins: Tensor
    is_cox: Tensor
    without_event: Tensor


@dataclass(frozen=True)
class CoxTasks:
    """Places of the Cox tasks among the tasks, and of their logits among the logits."""

    tasks: tuple[int, ...]
    logits: tuple[int, ...]

    @classmethod
    def of(cls, outputs: Outputs) -> CoxTasks:
        """Those of a model's outputs."""
        found = [task for task, endpoint in enumerate(outputs.endpoints) if endpoint.loss == "cox"]
        return cls(tuple(found), tuple(outputs.slices[task].start for task in found))

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def without_targets(self, targets: Tensor) -> Tensor:
        """`targets` [S, B, T] under which a bag's loss leaves Cox tasks out."""
        if not self:
            return targets
        emptied = targets.clone()
        emptied[..., list(self.tasks)] = 0
        return emptied

    def of_batch(self, logits: Tensor, labels: Tensor, known: Tensor) -> CoxBatch:
        """Targets and losses of a batch, from logits [S, B, W], and labels (signed days) and `known` of its slides [S, B, T]."""
        tasks = list(self.tasks)
        z = logits[..., list(self.logits)].mT  # [S, C, B]
        days = (labels * (known > 0))[..., tasks].mT
        is_known = days != 0
        found = self._losses(z, days)
        gradient = found.gradient * is_known.sum(dim=-1, keepdim=True)
        targets, losses, stand_ins = labels.clone(), torch.zeros_like(labels), torch.zeros_like(labels)
        targets[..., tasks] = gradient.mT.to(labels)
        losses[..., tasks] = (found.loss[..., None] * is_known).mT.to(labels)
        stand_ins[..., tasks] = (gradient * z).mT.to(labels)
        is_cox = torch.zeros(labels.shape[-1], dtype=torch.bool, device=labels.device)
        is_cox[tasks] = True
        return CoxBatch(targets, losses, stand_ins, is_cox, ~found.has_event)

    def _losses(self, z: Tensor, days: Tensor) -> CoxLoss:
        """Losses of all S models one after the other: a whole side's risk sets need not be in memory S times."""
        each = [cox_loss(own, its) for own, its in zip(z, days, strict=True)]
        return CoxLoss(*(torch.stack(parts) for parts in zip(*each, strict=True)))
