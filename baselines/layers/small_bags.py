"""Small bags: where a patch costs less to compute than an operation to start, so that fewer operations are what saves time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from milbench_baselines.layers.row_blocks import FEW

WIDEST = 128
"""Width of an embedding up to which operations cost more to start than to compute. Wider ones go through the modules."""

FEWER = 224
"""Patches up to which a whole bag gains nothing from blocks. Fewer than `activation_cost` measures at, so it sees blocks alone."""

NUMBERS = 2**17
"""Numbers that a layer no wider than `WIDEST` makes of a bag up to which blocks gain nothing: they stay in the cache anyway. These are more
patches than `activation_cost` measures most models at, so of narrow models it sees whole bags, which need more memory than blocks.
"""

MOST = 2048
"""Patches up to which a bag may go as a whole. Fewer than the largest bag of `activation_cost`, where a model that needs more memory in
blocks shows it.
"""


def is_cheap(x: Tensor, width: int) -> bool:
    """Whether a bag [N, D] is computed sooner as it is than in blocks, where layers make at most `width` numbers of a patch."""
    n = x.shape[0]
    return n <= FEWER or (width <= WIDEST and n <= MOST and n * width <= NUMBERS)


def is_small_stack(bags: Sequence[Tensor], width: int) -> bool:
    """Whether bags [N, D] of one size go through a stack of models by `of_stack`: few patches, on a CPU, no layer wider than `WIDEST`."""
    n, like = bags[0].shape[0], bags[0]
    is_plain = like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64) and not like.requires_grad
    return is_plain and n <= FEW and width <= WIDEST


def together(bags: Sequence[Tensor]) -> Tensor:
    """Bags [B, N, D] of one size."""
    return torch.stack(list(bags)) if len(bags) > 1 else bags[0][None]
