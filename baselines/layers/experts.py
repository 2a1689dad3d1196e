"""Experts of a mixture: one after the other, or all of them in the same few products where bags are small."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ENTRIES_SIDE_BY_SIDE = 2**16
"""Numbers in one expert's embedding of a bag, patches times width. Up to about here starting an operation costs as much as
computing it, and five experts side by side take a step of M4 1.1 to 1.7 times as fast on a CPU; far beyond, 0.75 times, as
what they keep no longer fits into the processor's cache."""


def of_experts(experts: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    """Slide features [E, hidden] and raw scores [E, N] or [E, k*k] that E experts of one class make of patches [N, D]."""
    first: Any = experts[0]
    if len(features) * first.embed[0].out_features <= ENTRIES_SIDE_BY_SIDE:
        of_all: tuple[Tensor, Tensor] = first.of_all(list(experts), features)
        return of_all
    slides, scores = zip(*(expert(features) for expert in experts), strict=True)
    return torch.stack(slides), torch.stack(scores)
