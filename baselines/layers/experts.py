"""Experts of a mixture: one after the other, or all of them in the same few products where that is faster."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATCHES_SIDE_BY_SIDE = 128
"""Up to about here starting an operation costs a CPU as much as computing it; with a thousand patches experts side by side are
slower, as what they keep leaves the processor's cache (`benchmarks/together.py`)."""

PATCHES_ON_A_GPU = 12_000
"""A GPU waits for its operations to be started also on large bags. Not on the largest: a bag that goes side by side is never
taken expert by expert for want of memory, which would draw other masks, so all that the experts keep must fit."""


def of_experts(experts: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    """Slide features [E, hidden] and raw scores [E, N] or [E, k*k] that E experts of one class make of patches [N, D]."""
    most = PATCHES_SIDE_BY_SIDE if features.device.type == "cpu" else PATCHES_ON_A_GPU
    if len(features) <= most:
        of_all: tuple[Tensor, Tensor] = type(experts[0]).of_all(list(experts), features)  # type: ignore[attr-defined]
        return of_all
    slides, scores = zip(*(expert(features) for expert in experts), strict=True)
    return torch.stack(slides), torch.stack(scores)
