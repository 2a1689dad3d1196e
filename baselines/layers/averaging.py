"""Average of predictions as probabilities, given and returned as logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def logit_of_mean_probability(logits: Tensor) -> Tensor:
    """Logit [...] of the mean over R of sigmoid(`logits` [R, ...]). If R is 1, the logit itself."""
    if logits.shape[0] == 1:
        return logits[0]
    return logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)
