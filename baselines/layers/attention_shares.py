"""Attention rows of logits, put together into the maps of a task."""

from __future__ import annotations

import torch
from torch import Tensor

from milbench.endpoints.fitted import FittedEndpoint


def shares_of_rows(task: FittedEndpoint, rows: int) -> Tensor:
    """Weights [R, rows], each row's sum 1, of a task's attention rows in its R maps.

    Classes: each has its own row. If there is a row per grade, rows count by their grade: of two classes of a binary
    task the second alone. Thresholds and time bins count equally.
    """
    if task.kind == "multiclass":
        return torch.eye(rows)
    has_row_per_class = rows > 1 and task.loss in ("bce", "ce")
    weights = torch.arange(rows) if has_row_per_class else torch.ones(rows)
    return (weights / weights.sum())[None]
