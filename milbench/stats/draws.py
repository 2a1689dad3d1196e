"""Draws: how many a bootstrap needs for an interval."""

from __future__ import annotations

from milbench.errors import UsageError

DRAWS = 10_000
"""Of an interval, unless another number is asked for."""

FEWEST_DRAWS = 100
"""Draws of an interval at least: with fewer, the ends of a 95 % interval are single draws."""


def refuse_few_draws(draws: int, setting: str) -> None:
    """UsageError if so many draws make no interval.

    Parameters
    ----------
    setting : what the user calls the number.
    """
    if draws < FEWEST_DRAWS:
        raise UsageError(f"{setting} is {draws}. Give {FEWEST_DRAWS} or more: an interval needs as many.")
