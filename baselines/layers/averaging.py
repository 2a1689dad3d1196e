"""Predictions averaged as probabilities, given and returned as logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def logit_of_mean_probability(logits: Tensor) -> Tensor:
    """Logit [...] of the mean over the first axis of sigmoid(logits), `logits` [R, ...]; exact where R is 1."""
    if logits.shape[0] == 1:
        return logits[0]
    return logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)
