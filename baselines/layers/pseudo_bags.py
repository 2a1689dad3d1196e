"""Pseudo-bags: a shuffled bag cut into consecutive parts."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor


def sizes_of_parts(n: int, parts: int) -> list[int]:
    """Sizes of the non-empty parts of n patches; the first parts get the remainder, as in `numpy.array_split`."""
    return [n // parts + (part < n % parts) for part in range(min(parts, n))]


def members_of_parts(order: Tensor, sizes: list[int]) -> Tensor:
    """Membership, bool [G, N]: which patch is in which of the G parts that `order` [N] is cut into."""
    position = order.argsort()  # [N], of each patch in the order
    ends = torch.tensor(list(accumulate(sizes)), device=order.device)[:, None]
    starts = ends - torch.tensor(sizes, device=order.device)[:, None]
    return (starts <= position) & (position < ends)


def fixed_orders(n: int, count: int, device: torch.device) -> list[Tensor]:
    """Orders [n], `count` of them, pseudo-random. They depend on n alone and leave torch's generator untouched."""
    rng = np.random.default_rng(n)
    return [torch.from_numpy(rng.permutation(n)).to(device) for _ in range(count)]
