"""Dropout whose mask is cheap to draw on a CPU."""

from __future__ import annotations

from functools import cache
from math import prod

import torch
from torch import Tensor, nn
from torch.func import vmap

from milbench.errors import UsageError

LANES = 4
"""16-bit numbers in a 64-bit random word."""

STEPS = 2**16


class Dropout(nn.Module):
    """Every entry is zeroed with probability `p`, else divided by the probability of staying; identity in eval mode.

    As `torch.nn.Dropout`, whose CPU kernel draws one random number an entry and so costs as much as a matrix product.
    Here one word serves four entries: an entry stays where its 16 bits are at least round(65536 p). So `p` is met to
    8e-6, and the expectation exactly, as what stays is scaled by the probability that was met. Other devices draw one
    number an entry, by a factory: torch's fused dropout draws others inside vmap than outside, and a member of a stack
    would get masks that it would not get alone. Randomness comes from torch's global generator only.

    Parameters
    ----------
    p : probability of zero, 0 <= p < 1.

    Raises
    ------
    UsageError : `p` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"a dropout of {p} is no share that can be left out. Choose one from 0 to below 1.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x` [...] with the mask of this pass, same shape and dtype."""
        if not self.training or self.p == 0:
            return x
        return x * self._drawn(x.shape, x)

    def mask(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Factors [*shape] that a pass applies, 0 or 1 / probability of staying, in dtype and device of `like`.

        In eval mode ones, and nothing is drawn.
        """
        ones = like.new_ones(()).expand(shape)
        if not self.training or self.p == 0:
            return ones
        return self._drawn(shape, like)

    def _drawn(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """`mask` in training."""
        return self._four_a_word(shape, like) if like.device.type == "cpu" else self._one_each(shape, like)

    def _one_each(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.rand(shape, device=like.device).ge_(self.p).mul_(1 / (1 - self.p)).to(like.dtype)

    def _four_a_word(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        zeros = min(round(self.p * STEPS), STEPS - 1)  # of 65,536 values of a lane
        n = prod(shape)
        words = torch.randint(-(2**63), 2**63 - 1, (-(-n // LANES),))
        as_lanes = torch.Tensor.view if _views_inside_vmap() else torch.view_copy
        lanes = as_lanes(words, torch.int16)[:n].reshape(shape)  # -32,768 to 32,767
        # arithmetic instead of a comparison: booleans, and their products with floats, are slow on a CPU
        kept = (lanes - float(zeros - STEPS // 2 - 1)).clamp(0, 1)  # whole float32 numbers, so 0 or 1
        return kept.to(like.dtype).mul_(STEPS / (STEPS - zeros))


@cache
def _views_inside_vmap() -> bool:
    """Whether this torch reinterprets words inside vmap; 2.11 only copies them there, with a warning."""
    try:
        vmap(lambda words: words.view(torch.int16))(torch.zeros(1, 1, dtype=torch.int64))
    except RuntimeError:
        return False
    return True
