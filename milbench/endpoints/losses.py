"""Losses of one bag by kind of task, on logits; equation numbers in docs/endpoints.md.

All are written for `torch.func.vmap`: no branch on values, and shapes that do not depend on them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss, logsigmoid

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs


def task_losses(outputs: Outputs, logits: Tensor, targets: Tensor) -> Tensor:
    """Loss of every task.

    Parameters
    ----------
    logits : [..., W], of one bag, or of several answers to it.
    targets : [T], as `FittedEndpoint.targets`; any finite number where the label is unknown.

    Returns
    -------
    Tensor [..., T].
    """
    if outputs.all_binary:
        return binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none")
    losses = [
        _loss(endpoint, logits[..., own], target)
        for endpoint, own, target in zip(outputs.endpoints, outputs.slices, targets, strict=True)
    ]
    return torch.stack(losses, dim=-1)


def _loss(endpoint: FittedEndpoint, logits: Tensor, target: Tensor) -> Tensor:
    """Loss [...] of one task with logits [..., width] and a scalar target."""
    if endpoint.loss == "ce":
        return cross_entropy(logits, target)
    if endpoint.loss == "corn":
        return corn(logits, target)
    if endpoint.loss == "nll":
        return discrete_nll(logits, target, alpha=endpoint.alpha, eps=endpoint.eps)
    logit = logits[..., 0]
    target = target.expand_as(logit)
    if endpoint.loss == "bce":
        return binary_cross_entropy_with_logits(logit, target, reduction="none")
    if endpoint.loss == "huber":
        return huber_loss(logit, target, reduction="none")
    if endpoint.loss == "l1":
        return (logit - target).abs()
    if endpoint.loss == "mse":
        return (logit - target) ** 2
    return logit * target  # "cox": the target is the derivative of the step's loss by this logit (`cox.py`)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-log softmax(z)_y of logits [..., C] and the class's place y: [...]."""
    chosen = torch.arange(logits.shape[-1], device=logits.device) == target
    return -(logits.log_softmax(dim=-1) * chosen).sum(dim=-1)


def corn(logits: Tensor, target: Tensor) -> Tensor:
    """Conditional ordinal loss of logits [..., C - 1] and grade y: [...].

    Logit k says whether y > k among bags with y >= k; the sum over those k is divided by C - 1, so that one bag's loss
    does not depend on the others of its step (coral-pytorch 1.4.0 divides by the pairs of the whole batch).
    """
    k = torch.arange(logits.shape[-1], device=logits.device)
    above, asked = (target > k).to(logits.dtype), (target >= k).to(logits.dtype)
    each = binary_cross_entropy_with_logits(logits, above.expand_as(logits), reduction="none")
    return (each * asked).sum(dim=-1) / logits.shape[-1]


def discrete_nll(logits: Tensor, target: Tensor, *, alpha: float = 0.0, eps: float = 0.0) -> Tensor:
    """Negative log-likelihood of discrete hazards sigmoid(z) [..., K]: [...].

    Event in bin y: -log S_(y-1) - log h_y. Censored in bin y: (1 - alpha) times -log S_y. With `eps`, each factor is
    clamped from below as MCAT, PORPOISE and SurvPath do; a clamped one has no gradient. Else in log space, exact.

    Parameters
    ----------
    target : the bin's number from 1; negative if censored.
    """
    k = torch.arange(1, logits.shape[-1] + 1, device=logits.device)
    bin_number, event = target.abs(), target > 0
    is_bin = (k == bin_number).to(logits.dtype)
    log_hazard, log_survives = logsigmoid(logits), logsigmoid(-logits)
    before = (log_survives * (k < bin_number)).sum(dim=-1)  # log S_(y-1)
    until = before + (log_survives * is_bin).sum(dim=-1)  # log S_y
    own = (log_hazard * is_bin).sum(dim=-1)  # log h_y
    if eps:
        before, until, own = ((part.exp().clamp(min=eps)).log() for part in (before, until, own))
    return torch.where(event, -(before + own), -(1 - alpha) * until)
