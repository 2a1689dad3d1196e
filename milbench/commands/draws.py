"""Draws: the flag that says how often a bootstrap draws, for all commands that print intervals."""

from __future__ import annotations

import argparse

from milbench.errors import UsageError

MOST_DRAWS = 1_000_000
"""A hundred times the usual number: beyond, only time and memory grow."""


def add_draws_flag(parser: argparse.ArgumentParser) -> None:
    """Put `--draws` on `parser`."""
    parser.add_argument("--draws", type=int, metavar="N", help="bootstrap draws of an interval (default 10000)")


def draws_of(options: argparse.Namespace) -> int:
    """Draws that are asked for, or the usual number.

    Raises
    ------
    UsageError : too few for an interval, or too many to wait for.
    """
    from milbench.stats.draws import DRAWS, refuse_few_draws

    if options.draws is None:
        return DRAWS
    refuse_few_draws(options.draws, "--draws")
    if options.draws > MOST_DRAWS:
        raise UsageError(f"--draws is {options.draws}. Give {MOST_DRAWS:,} or fewer: more only take time and memory.")
    return int(options.draws)
