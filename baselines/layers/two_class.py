"""Two logits for each binary task, as in the official codes of TransMIL, DTFD-MIL and barspoon.

The task's logit is their difference: sigmoid(y1 - y0) = softmax(y)_1. So binary cross-entropy on it is exactly the
two-class cross-entropy, with the same gradients of all weights. A task of another kind has its own number of logits in
the head, and they are the answer: of C classes the official C.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError


def head_width(outputs: Outputs) -> int:
    """Number of logits in the head: 2 of a binary task, else W."""
    return 2 if outputs.all_binary else int(outputs)


def answer_of(outputs: Outputs, head_logits: Tensor) -> Tensor:
    """Logits [..., W] that answer the task, from the head's [..., 2] or [..., W]."""
    return log_odds(head_logits)[..., None] if outputs.all_binary else head_logits


def log_odds(two_logits: Tensor) -> Tensor:
    """Logits [...] of class 1 against class 0, from two logits [..., 2]."""
    return two_logits[..., 1] - two_logits[..., 0]


def refuse_several_tasks(title: str, outputs: Outputs) -> None:
    """Raise `UsageError` unless there is one task."""
    if outputs.n_tasks != 1:
        raise UsageError(f"{title} answers one task; got n_tasks={outputs.n_tasks}. Train one model per task.")


def task_widths(outputs: Outputs) -> tuple[int, ...]:
    """Number of logits in each task's own head: 2 of a binary task, else as many as it has."""
    return tuple(2 if task.kind == "binary" else task.width for task in outputs.endpoints)


def answers_of_tasks(outputs: Outputs, head_logits: Sequence[Tensor]) -> Tensor:
    """Logits [..., W] that answer all tasks, from those of each task's head."""
    each = zip(outputs.endpoints, head_logits, strict=True)
    return torch.cat([log_odds(own)[..., None] if task.kind == "binary" else own for task, own in each], dim=-1)
