"""Masks: factors of dropout that experts side by side are given, where they do not draw their own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Masks(NamedTuple):
    """Factors on the embedding [N, E, hidden] and on the attention [E, N or k*k, A] of E experts; None = dropout draws, if it does."""

    embed: Tensor | None = None
    attention: Tensor | None = None


DRAWN = Masks()
"""Dropout draws all of them."""
