"""Experts of a mixture: one after the other, or all of them in the same few products where bags are small."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATCHES_SIDE_BY_SIDE = 128
"""Up to about here starting an operation costs as much as computing it; with a thousand patches experts side by side are slower
on a CPU, as what they keep leaves the processor's cache (`benchmarks/together.py`)."""


def of_experts(experts: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    """Slide features [E, hidden] and raw scores [E, N] or [E, k*k] that E experts of one class make of patches [N, D]."""
    if len(features) <= PATCHES_SIDE_BY_SIDE:
        of_all: tuple[Tensor, Tensor] = type(experts[0]).of_all(list(experts), features)  # type: ignore[attr-defined]
        return of_all
    slides, scores = zip(*(expert(features) for expert in experts), strict=True)
    return torch.stack(slides), torch.stack(scores)
