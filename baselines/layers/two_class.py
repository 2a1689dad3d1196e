"""Two logits for one binary task, as in the official codes of TransMIL and DTFD-MIL.

The task's logit is their difference: sigmoid(y1 - y0) = softmax(y)_1. So binary cross-entropy on it is exactly the
two-class cross-entropy, with the same gradients of all weights.
"""

from __future__ import annotations

from torch import Tensor

from milbench.errors import UsageError


def log_odds(two_logits: Tensor) -> Tensor:
    """Logits [...] of class 1 against class 0, from two logits [..., 2]."""
    return two_logits[..., 1] - two_logits[..., 0]


def refuse_several_tasks(title: str, n_tasks: int) -> None:
    """Raise `UsageError` unless there is one task."""
    if n_tasks != 1:
        raise UsageError(f"{title} has two classes, so it has one task; got n_tasks={n_tasks}. Train one model per task.")
