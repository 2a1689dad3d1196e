"""Losses of one bag by kind of task, on logits; docs/endpoints.md has the formulas.

All are written for `torch.func.vmap`: no branch on values, and shapes that do not depend on them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss, logsigmoid

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs


def task_losses(outputs: Outputs, logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Loss of every task.

    Parameters
    ----------
    logits : [..., W], of one bag, or of several answers to it.
    targets : [T], as `FittedEndpoint.targets`; any finite number where the label is unknown.
    smoothing : share e of a label that is spread evenly over its C classes, for "bce" (C = 2) and "ce": the class's
        target is 1 - e + e / C, that of each other class e / C.

    Returns
    -------
    Tensor [..., T].
    """
    if outputs.all_binary:
        soft = smoothed(targets, smoothing, n_classes=2)
        soft = soft if soft.shape == logits.shape else soft.expand_as(logits)
        return binary_cross_entropy_with_logits(logits, soft, reduction="none")
    losses = [
        _loss(endpoint, logits[..., own], target, smoothing)
        for endpoint, own, target in zip(outputs.endpoints, outputs.slices, targets, strict=True)
    ]
    return torch.stack(losses, dim=-1)


def weighted_bce(logits: Tensor, targets: Tensor, known: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Sum over binary tasks of `task_losses` times `known` [T], a scalar, of logits [T]. `known` gets no gradient."""
    soft = smoothed(targets, smoothing, n_classes=2)
    return binary_cross_entropy_with_logits(logits, soft, weight=known, reduction="sum")


def smoothed(is_class: Tensor, smoothing: float, *, n_classes: int) -> Tensor:
    """Targets (1 - e) y + e / C of targets y that are 1 for the label's class and else 0."""
    return is_class * (1 - smoothing) + smoothing / n_classes if smoothing else is_class


def _loss(endpoint: FittedEndpoint, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Loss [...] of one task with logits [..., width] and a scalar target."""
    if endpoint.loss == "ce":
        return cross_entropy(logits, target, smoothing)
    if endpoint.loss == "corn":
        return corn(logits, target)
    if endpoint.loss == "nll":
        return discrete_nll(logits, target, alpha=endpoint.alpha, eps=endpoint.eps)
    logit = logits[..., 0]
    target = target.expand_as(logit)
    if endpoint.loss == "bce":
        return binary_cross_entropy_with_logits(logit, smoothed(target, smoothing, n_classes=2), reduction="none")
    if endpoint.loss == "huber":
        return huber_loss(logit, target, reduction="none")
    if endpoint.loss == "l1":
        return (logit - target).abs()
    if endpoint.loss == "mse":
        return (logit - target) ** 2
    return logit * target  # "cox": the target is the derivative of the step's loss by this logit (`cox.py`)


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log softmax(z)_y of logits [..., C] and the class's place y, or its mean over smoothed targets: [...]."""
    n_classes = logits.shape[-1]
    is_class = (torch.arange(n_classes, device=logits.device) == target).to(logits.dtype)
    return -(logits.log_softmax(dim=-1) * smoothed(is_class, smoothing, n_classes=n_classes)).sum(dim=-1)


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

    Event in bin y: -log S_(y-1) - log h_y. Censored in bin y: (1 - alpha) times -log S_y.

    Parameters
    ----------
    target : the bin's number from 1; negative if censored.
    eps : 0 = in log space, exact. Else S_(y-1), h_y and S_y are each clamped from below, as in MCAT, PORPOISE and
        SurvPath: a clamped one has no gradient.
    """
    number, event = target.abs(), target > 0
    factors = _log_factors_clamped(logits, number, eps) if eps else _log_factors(logits, number)
    log_before, log_hazard, log_until = factors
    return torch.where(event, -(log_before + log_hazard), -(1 - alpha) * log_until)


def _log_factors(logits: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log S_(y-1), log h_y and log S_y [...]."""
    k = _bins(logits)
    log_survives = logsigmoid(-logits)
    log_hazard = (logsigmoid(logits) * (k == number)).sum(dim=-1)
    return (log_survives * (k < number)).sum(dim=-1), log_hazard, (log_survives * (k <= number)).sum(dim=-1)


def _log_factors_clamped(logits: Tensor, number: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same of probabilities of at least `eps`; products bin by bin, so that float32 rounds as the official codes do."""
    is_bin = _bins(logits) == number
    hazard = logits.sigmoid()
    survival = [torch.ones_like(hazard[..., 0])]
    for own in hazard.unbind(dim=-1):  # not `cumprod`: its gradient branches on zeros
        survival.append(survival[-1] * (1 - own))
    curve = torch.stack(survival, dim=-1)  # [..., K + 1]: S_0, ..., S_K
    chosen = [(each * is_bin).sum(dim=-1) for each in (curve[..., :-1], hazard, curve[..., 1:])]
    before, own, until = (each.clamp(min=eps).log() for each in chosen)
    return before, own, until


def _bins(logits: Tensor) -> Tensor:
    """Numbers of the bins, from 1 to K."""
    return torch.arange(1, logits.shape[-1] + 1, device=logits.device)
