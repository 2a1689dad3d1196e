"""Experts of a mixture: computed one after the other, or side by side in the same few products where that is faster."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATCHES_SIDE_BY_SIDE = 128
"""Largest bag on a CPU whose experts are computed side by side.

Up to about this size, starting an operation costs a CPU as much as computing it. With a thousand patches, experts side by
side are slower: what they keep no longer fits into the processor's cache (`benchmarks/together.py`).
"""

PATCHES_ON_A_GPU = 12_000
"""Largest bag on a GPU whose experts are computed side by side.

A GPU waits for its operations to be started, also with large bags. The limit is there for memory: if a bag goes side by
side, it is never split by expert when memory runs out, because that would draw other dropout masks. So all that the
experts keep must fit.
"""


def of_experts(experts: nn.ModuleList, features: Tensor) -> tuple[Tensor, Tensor]:
    """Slide features [E, hidden] and raw scores [E, N] or [E, k*k] of E experts of one class, for patches [N, D]."""
    most = PATCHES_SIDE_BY_SIDE if features.device.type == "cpu" else PATCHES_ON_A_GPU
    if len(features) <= most:
        of_all: tuple[Tensor, Tensor] = type(experts[0]).of_all(list(experts), features)  # type: ignore[attr-defined]
        return of_all
    slides, scores = zip(*(expert(features) for expert in experts), strict=True)
    return torch.stack(slides), torch.stack(scores)
