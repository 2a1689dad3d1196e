"""Evidence: what logits say of each heatmap's question, as one number that is higher the more it speaks for it.

========================  ======================================================================================
kind                      evidence
========================  ======================================================================================
binary                    logit of class 1
multiclass, of a class    logit of the class's probability p: log p - log(1 - p)
ordinal                   expected grade
regression                standardised value
survival                  risk: minus the expected number of bins survived ("nll"), or the logit ("cox")
========================  ======================================================================================

With it, models compare patches: which one is highest, and how maps are coloured. All is written for `torch.func.vmap`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs


def evidence(outputs: Outputs, logits: Tensor) -> Tensor:
    """Evidence [..., R] in logits [..., W]; rows as `Outputs.maps` names them."""
    if outputs.all_binary:
        return logits
    each = zip(outputs.endpoints, outputs.slices, strict=True)
    return torch.cat([_evidence(endpoint, logits[..., own]) for endpoint, own in each], dim=-1)


def task_evidence(outputs: Outputs, logits: Tensor) -> Tensor:
    """Evidence [..., T] in logits [..., W]: of a multiclass task that of its likeliest class."""
    if "multiclass" not in outputs.kinds:
        return evidence(outputs, logits)
    each = zip(outputs.endpoints, outputs.slices, strict=True)
    return torch.stack([_evidence(endpoint, logits[..., own]).amax(dim=-1) for endpoint, own in each], dim=-1)


def _evidence(endpoint: FittedEndpoint, logits: Tensor) -> Tensor:
    """Evidence [..., R] of one task with logits [..., width]."""
    if endpoint.kind == "multiclass":
        return _against_the_rest(logits)
    if endpoint.kind == "ordinal":
        return _expected_grade(endpoint, logits)[..., None]
    if endpoint.loss == "nll":
        return (
            -logsigmoid(-logits).cumsum(dim=-1).exp().sum(dim=-1, keepdim=True)
        )  # the sum of S_k is the bins survived
    return logits


def _against_the_rest(logits: Tensor) -> Tensor:
    """Logits [..., C] of the probabilities softmax(`logits` [..., C]); no probability is rounded to 1 on the way."""
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    rest = logits[..., None, :].masked_fill(itself, -torch.inf)  # [..., C, C]
    return logits - rest.logsumexp(dim=-1)


def _expected_grade(endpoint: FittedEndpoint, logits: Tensor) -> Tensor:
    """Expected grade [...] of logits [..., width]."""
    if endpoint.loss == "corn":
        return logsigmoid(logits).cumsum(dim=-1).exp().sum(dim=-1)  # sum over k of P(y > k)
    if endpoint.loss == "ce":
        places = torch.arange(logits.shape[-1], device=logits.device, dtype=logits.dtype)
        return (logits.softmax(dim=-1) * places).sum(dim=-1)
    return logits[..., 0]
