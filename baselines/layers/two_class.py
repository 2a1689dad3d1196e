"""Two logits for one binary task, as the official codes of TransMIL and DTFD-MIL have them.

The task's logit is their difference: sigmoid(y1 - y0) = softmax(y)_1, so binary cross-entropy
on it is exactly the two-class cross-entropy, gradients of all weights included.
"""

from __future__ import annotations

from torch import Tensor, nn

from milbench.errors import UsageError

from .dropout import Dropout
from .gated_attention import GatedAttention


class TwoClassHead(nn.Module):
    """Dropout, then Linear to two logits [..., 2]."""

    def __init__(self, in_features: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(in_features, 2)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits [..., 2] of rows [..., L]."""
        return self.linear(self.dropout(rows))  # type: ignore[no-any-return]


class AttentionClassifier(nn.Module):
    """Gated-attention MIL without an embedding: two logits of rows [M, L]."""

    def __init__(self, width: int, attention: int, dropout: float) -> None:
        super().__init__()
        self.attention = GatedAttention(width, attention)
        self.classifier = TwoClassHead(width, dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits [2]."""
        weights = self.attention(rows).softmax(dim=0)  # [M]
        return self.classifier(weights @ rows)  # type: ignore[no-any-return]


def log_odds(two_logits: Tensor) -> Tensor:
    """Logit [...] of class 1 against class 0, from [..., 2]."""
    return two_logits[..., 1] - two_logits[..., 0]


def refuse_several_tasks(title: str, n_tasks: int) -> None:
    """Raise `UsageError` unless there is one task."""
    if n_tasks != 1:
        raise UsageError(f"{title} has two classes, so one task; got n_tasks={n_tasks}. Train one model a task.")
