"""Dropout whose mask is cheap to draw on a CPU."""

from __future__ import annotations

from functools import cache
from math import prod

import torch
from torch import Tensor, nn
from torch.func import vmap

from milbench.errors import UsageError

LANES = 4
"""Number of 16-bit lanes in a 64-bit random word."""

STEPS = 2**16
"""Number of values that a lane can take."""


class Dropout(nn.Module):
    """Entries zeroed with probability `p`, else divided by the probability of staying. In eval mode the input.

    It does what `torch.nn.Dropout` does. On a CPU torch draws one random number per entry, which costs as much as a
    matrix product. Here one 64-bit word serves four entries: an entry stays if its 16 bits are at least
    round(65536 p). So the probability of zero is `p` within 8e-6. The expectation is exact, because entries that stay
    are divided by the probability that is really used.

    Other devices draw one number per entry with `torch.rand`. torch's fused dropout draws other numbers inside vmap than
    outside, so a model in a stack would get other masks than alone. All randomness comes from torch's global
    generator.

    Parameters
    ----------
    p : probability of zero, 0 <= p < 1.

    Raises
    ------
    UsageError : `p` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        refuse_no_rate(p)
        self.p = p

    @classmethod
    def of_product(cls, p: float) -> Dropout:
        """Dropout of a product of two factors that each have dropout `p`.

        An entry of the product stays if it stays in both: one draw for the two has the same distribution.
        """
        refuse_no_rate(p)
        return cls(1 - (1 - p) ** 2)

    def forward(self, x: Tensor) -> Tensor:
        """`x` [...] times the mask of this pass, same shape and dtype."""
        if not self.training or self.p == 0:  # `draws`, which would be asked for longer
            return x
        return x * self._drawn(x.shape, x)

    def mask(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Factors [*shape] of one pass, 0 or 1 / (probability of staying), in dtype and device of `like`.

        In eval mode all factors are 1 and nothing is drawn.
        """
        return self._drawn(shape, like) if self.draws else like.new_ones(()).expand(shape)

    def drawn_from(self, generator: torch.Generator, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """`mask` of a training pass on a CPU, by a generator that is where torch's global one was when that mask was drawn."""
        return self.of_lanes(_lanes(shape, generator), like)

    def seeded(self, shape: tuple[int, ...], like: Tensor, seed: int) -> Tensor:
        """Factors [*shape] of a training pass that a seed decides, so that a backward can draw them again; not inside vmap."""
        if like.device.type == "meta":  # has shapes and no numbers, and no generator
            return like.new_empty(shape)
        generator = torch.Generator(like.device).manual_seed(seed)
        if like.device.type != "cpu":
            drawn = torch.rand(shape, device=like.device, generator=generator)
            return drawn.ge_(self.p).mul_(1 / (1 - self.p)).to(like.dtype)
        return self.of_lanes(_lanes(shape, generator), like)

    @property
    def draws(self) -> bool:
        """Whether a pass draws a mask."""
        return self.training and self.p > 0

    @property
    def factor(self) -> float:
        """Factor of the entries that stay in a pass of now, on a CPU."""
        return STEPS / (STEPS - self._zeros) if self.draws else 1.0

    @property
    def _zeros(self) -> int:
        """How many of a lane's values mean zero."""
        return min(round(self.p * STEPS), STEPS - 1)

    def _drawn(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Factors [*shape] of a training pass."""
        return self._four_a_word(shape, like) if like.device.type == "cpu" else self._one_each(shape, like)

    def _one_each(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        # not `ge_`: inside vmap torch would take the trials of a fold stack one by one
        kept = torch.rand(shape, device=like.device) >= self.p
        return (kept * (1 / (1 - self.p))).to(like.dtype)

    def _four_a_word(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return self.of_lanes(self.lanes(shape), like)

    def lanes(self, shape: tuple[int, ...]) -> Tensor:
        """Random numbers [*shape], int16, of one pass on a CPU, from which `of_lanes` makes its mask."""
        words = torch.randint(-(2**63), 2**63 - 1, (_n_words(shape),))
        as_lanes = torch.Tensor.view if _views_inside_vmap() else torch.view_copy
        return as_lanes(words, torch.int16)[: prod(shape)].reshape(shape)

    def masks(self, n_bags: int, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
        """Factors [B, *shape] of a pass of B bags on a CPU, those that a vmap over the bags draws; None = all are 1."""
        if not self.draws:
            return None
        words = torch.randint(-(2**63), 2**63 - 1, (n_bags, _n_words(shape)))
        return self.of_lanes(words.view(torch.int16)[:, : prod(shape)].reshape(n_bags, *shape), like)

    def of_lanes(self, lanes: Tensor, like: Tensor) -> Tensor:
        """Factors [*shape] of lanes [*shape], -32,768 to 32,767, in the dtype of `like`."""
        zeros = self._zeros
        # Arithmetic instead of a comparison: booleans, and their products with floats, are slow on a CPU.
        kept = (lanes - float(zeros - STEPS // 2 - 1)).clamp(0, 1)  # whole float32 numbers, so 0 or 1
        return kept.to(like.dtype).mul_(STEPS / (STEPS - zeros))


def refuse_no_rate(p: float) -> None:
    """Raise `UsageError` unless 0 <= p < 1."""
    if not 0 <= p < 1:
        raise UsageError(f"dropout is {p}, which is no probability of leaving out. Choose one from 0 to below 1.")


def _lanes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """`Dropout.lanes` of a generator, outside of vmap."""
    words = torch.randint(-(2**63), 2**63 - 1, (_n_words(shape),), generator=generator)
    return words.view(torch.int16)[: prod(shape)].reshape(shape)


def _n_words(shape: tuple[int, ...]) -> int:
    """Number of 64-bit words that serve all entries."""
    return -(-prod(shape) // LANES)


@cache
def _views_inside_vmap() -> bool:
    """Whether this torch can view words as lanes inside vmap. torch 2.11 can only copy them there, and warns."""
    try:
        vmap(lambda words: words.view(torch.int16))(torch.zeros(1, 1, dtype=torch.int64))
    except RuntimeError:
        return False
    return True
