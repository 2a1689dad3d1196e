"""Average of several answers to one bag, given and returned as logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs


def logits_of_mean_answer(outputs: Outputs, logits: Tensor) -> Tensor:
    """Logits [W] whose answer is the mean of the R answers in `logits` [R, W]. If R is 1, the logits themselves.

    Means are taken of probabilities: of classes, of grades above k, of being alive after bin k. Values and Cox's risks
    are averaged as they are.
    """
    if logits.shape[0] == 1:
        return logits[0]
    if outputs.all_binary:
        return logit_of_mean_probability(logits)
    each = zip(outputs.endpoints, outputs.slices, strict=True)
    return torch.cat([_of_task(endpoint, logits[:, own]) for endpoint, own in each])


def logit_of_mean_probability(logits: Tensor) -> Tensor:
    """Logit [...] of the mean over R of sigmoid(`logits` [R, ...]). If R is 1, the logit itself."""
    if logits.shape[0] == 1:
        return logits[0]
    return logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)


def _of_task(endpoint: FittedEndpoint, logits: Tensor) -> Tensor:
    """Logits [width] of the mean answer to one task, from `logits` [R, width]."""
    if endpoint.loss == "bce":
        return logit_of_mean_probability(logits)
    if endpoint.loss == "ce":
        return logits.log_softmax(dim=-1).logsumexp(dim=0)  # log R more than the mean's: softmax does not see it
    if endpoint.loss in ("corn", "nll"):
        return _of_steps(logits, logsigmoid(logits if endpoint.loss == "corn" else -logits))
    return logits.mean(dim=0)


def _of_steps(logits: Tensor, log_goes_on: Tensor) -> Tensor:
    """Conditional logits [K] of the mean of R chains of K steps, from their `logits` [R, K].

    Step k is asked where all steps before it went on, which they do with probability exp(`log_goes_on`) [R, K]. So the
    mean's logit at k is the log-odds of the means of P(reached k, yes) and P(reached k, no).
    """
    log_reached = pad(log_goes_on.cumsum(dim=-1)[..., :-1], (1, 0))  # [R, K]
    yes, no = log_reached + logsigmoid(logits), log_reached + logsigmoid(-logits)
    return yes.logsumexp(dim=0) - no.logsumexp(dim=0)
