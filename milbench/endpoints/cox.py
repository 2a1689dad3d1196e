"""Cox: partial likelihood of the slides of one step, with Efron's rule for ties, and its derivative by each logit.

The loss belongs to a batch, not to a bag, so it cannot be a sum of losses of bags. The derivative can: each bag's logit
is multiplied by its own derivative, a constant, and the sum over bags then has the gradient of the batch's loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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
    (from 0) sees all d of them with the weight w_ij = 1 - l / d. Rows may come in any order.

    Parameters
    ----------
    logits : [..., B], log risks z.
    days : [..., B], positive if the event was seen, negative if censored, 0 where unknown.
    """
    z, time, event = logits.double(), days.abs(), days > 0
    is_at_risk = (time[..., None, :] >= time[..., :, None]) & (days != 0)[..., None, :]  # [..., i, j]
    is_tied = (time[..., None, :] == time[..., :, None]) & event[..., None, :] & event[..., :, None]
    rank = is_tied.double().tril(diagonal=-1).sum(dim=-1, keepdim=True)  # l; any order of tied rows has the same sum
    share = rank / is_tied.sum(dim=-1, keepdim=True).clamp(min=1)  # l / d
    weights = is_at_risk * (1 - share * is_tied)
    terms = torch.where(is_at_risk, z[..., None, :] + weights.log(), -torch.inf)
    terms = torch.where(event[..., :, None], terms, 0.0)  # other rows count nothing; none of them may be NaN
    n_events = event.sum(dim=-1)
    each = torch.where(event, terms.logsumexp(dim=-1) - z, 0.0)
    pulled = torch.where(event[..., :, None], terms.softmax(dim=-1), 0.0).sum(dim=-2)
    divisor = n_events.clamp(min=1)
    return CoxLoss(each.sum(dim=-1) / divisor, (pulled - event.double()) / divisor[..., None], n_events > 0)
