"""Cox: partial likelihood of a batch of slides, with Efron's rule for ties, and its derivative by each logit.

The loss belongs to a batch, so it is no sum of losses of bags. Its derivative is one number per bag: if each bag's logit
is multiplied by that number, a constant, the sum over bags has the gradient of the batch's loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROWS_AT_ONCE = 512
"""Slides whose risk sets are held in memory together. A training step has fewer; a whole validation side may not."""


class CoxLoss(NamedTuple):
    """Loss of batches [...], and what a step needs of it.

    Attributes
    ----------
    loss : float64 [...], mean over events; 0 without an event.
    gradient : float64 [..., B], its derivative by each logit; 0 for slides with an unknown label.
    has_event : bool [...].
    """

    loss: Tensor
    gradient: Tensor
    has_event: Tensor


def cox_loss(logits: Tensor, days: Tensor) -> CoxLoss:
    """Mean over events i of log sum_j w_ij exp(z_j) - z_i, where j runs over the slides at risk at the time of i.

    At risk are the slides with t_j >= t_i, also those that are censored at t_i. Efron: of d events at one time, the l-th
    (from 0) sees all d of them with the weight w_ij = 1 - l / d. Slides may come in any order.

    Parameters
    ----------
    logits : [..., B], log risks z.
    days : [..., B], positive if the event was seen, negative if censored, 0 where unknown.
    """
    z, event = logits.double(), days > 0
    summed, pulled = torch.zeros_like(z[..., 0]), torch.zeros_like(z)
    for start in range(0, z.shape[-1], ROWS_AT_ONCE):
        rows = torch.arange(start, min(start + ROWS_AT_ONCE, z.shape[-1]), device=z.device)
        is_event = event[..., rows, None]
        terms = torch.where(is_event, _log_terms(z, days, rows), 0.0)  # other rows must count nothing, not NaN
        summed += torch.where(event[..., rows], terms.logsumexp(dim=-1) - z[..., rows], 0.0).sum(dim=-1)
        pulled += torch.where(is_event, terms.softmax(dim=-1), 0.0).sum(dim=-2)
    n_events = event.sum(dim=-1)
    divisor = n_events.clamp(min=1)
    return CoxLoss(summed / divisor, (pulled - event.double()) / divisor[..., None], n_events > 0)


def _log_terms(z: Tensor, days: Tensor, rows: Tensor) -> Tensor:
    """Log w_ij + z_j [..., rows, B] of the events i in some rows and all slides j; -inf where j is not at risk."""
    time, event, places = days.abs(), days > 0, torch.arange(z.shape[-1], device=z.device)
    is_at_risk = (time[..., None, :] >= time[..., rows, None]) & (days != 0)[..., None, :]
    is_tied = (time[..., None, :] == time[..., rows, None]) & event[..., None, :]
    earlier = (is_tied & (places < rows[:, None])).sum(
        dim=-1, keepdim=True
    )  # l: any order of the tied has the same sum
    share = earlier.double() / is_tied.sum(dim=-1, keepdim=True).clamp(min=1)  # l / d
    return torch.where(is_at_risk, z[..., None, :] + (1 - share * is_tied).clamp(min=0).log(), -torch.inf)
