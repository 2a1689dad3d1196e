"""The bags of digits are made once per process of tests: hundreds of commands ask for them, and each takes a fifth of a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from milbench.datasets.digits import SEED, DigitBags


def made_once_per_seed(make: Callable[[int], DigitBags]) -> Callable[..., DigitBags]:
    """The same bags, of which everybody gets a copy of their own."""
    kept = cache(make)

    def call(seed: int = SEED) -> DigitBags:
        return DigitBags(*(each.copy() for each in kept(seed)))

    return call
