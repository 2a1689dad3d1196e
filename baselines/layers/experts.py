"""Experts of a mixture: computed one after the other, or side by side in the same few products where that is faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.masks import Masks

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
    of_all: Any = type(experts[0]).of_all  # type: ignore[attr-defined]
    # a graph for any number of patches asks for no number
    if not torch.compiler.is_compiling() and all(expert.is_usual for expert in experts):
        if len(features) <= most:
            return of_all(list(experts), features)  # type: ignore[no-any-return]
        if _are_narrow(experts, features):
            return of_all(list(experts), features, _drawn_one_by_one(experts, features))  # type: ignore[no-any-return]
    slides, scores = zip(*(expert(features) for expert in experts), strict=True)
    return torch.stack(slides), torch.stack(scores)


def _are_narrow(experts: Sequence[Any] | nn.ModuleList, features: Tensor) -> bool:
    """Whether the experts of a bag [N, D] that is not small go side by side on a CPU: they make few numbers of it, in its own precision."""
    one: Any = experts[0]
    most = getattr(one, "numbers_side_by_side", 0)
    if features.device.type != "cpu" or len(experts) == 1:
        return False
    if not most or len(experts) * len(features) * one.embed[0].out_features > most:
        return False
    return features.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")


def _drawn_one_by_one(experts: Sequence[Any] | nn.ModuleList, features: Tensor) -> Masks:
    """The masks that the experts draw one after the other, so that both ways have the same results, up to rounding."""
    embed, attention = zip(*(_of_one(expert, features) for expert in experts), strict=True)
    return Masks(*(None if masks[0] is None else torch.stack(masks, dim) for masks, dim in ((embed, 1), (attention, 0))))


def _of_one(expert: Any, features: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Masks [N, hidden] and [N or k*k, A] of one expert."""
    n, (layer, _, dropout), attention = len(features), expert.embed, expert.attention
    return _mask(dropout, n, layer, features), _mask(attention.dropout, expert.n_scored(n), attention.tanh_branch, features)


def _mask(dropout: Dropout, n: int, layer: nn.Linear, like: Tensor) -> Tensor | None:
    return dropout.mask((n, layer.out_features), like) if dropout.draws else None
