"""Square grid: the patches of a bag laid out row by row on the smallest square that holds them.

The official codes of M4 and TransMIL fill the square with copies of the first patches.
"""

from __future__ import annotations

from math import isqrt

from torch import Tensor
from torch.nn.functional import pad


def side_of(n_patches: int) -> int:
    """Side k = ceil(sqrt N) of the square for `n_patches`, at least 1."""
    return isqrt(n_patches - 1) + 1


def folded(weights: Tensor, n_patches: int) -> Tensor:
    """Attention [A, N] of the patches, from weights [A, k*k] of the cells: a copy's weight is added to its patch.

    Weights [A, N], where no copy took part, are returned as they are.
    """
    copies = weights[:, n_patches:]
    return weights[:, :n_patches] + pad(copies, (0, n_patches - copies.shape[1]))
