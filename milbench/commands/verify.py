"""`milbench verify`: whether a bundle is what it says, each number of its report made again from its predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK, EXIT_PROBLEMS
from milbench.commands.terminal import complain, line, new_console, say

if TYPE_CHECKING:
    from milbench.bundles.verify import Verdict

HELP = "recompute every number of a bundle's report from its predictions, and check hashes, splits, sides and grid"

MOST_SHOWN = 50


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench verify` on `parser`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="folder or zip of `milbench bundle`, or a run folder"
    )
    parser.add_argument("--all", action="store_true", help=f"name every difference, not only the first {MOST_SHOWN}")


def call(options: argparse.Namespace) -> int:
    """Exit code of verifying: 0 all equal, 1 something differs, 2 no bundle."""
    from milbench.report.fewer_imports import import_little

    import_little()
    from milbench.bundles.verify import verify

    verdict = verify(options.bundle)
    console = new_console()
    for note in verdict.notes:
        line(console, f"note: {note}")
    shown = verdict.differences if options.all else verdict.differences[:MOST_SHOWN]
    for each in shown:
        complain(each.text)
    if len(shown) < len(verdict.differences):
        complain(f"and {len(verdict.differences) - len(shown):,} more; --all names them")
    say(_conclusion(verdict))
    return EXIT_OK if verdict.is_equal else EXIT_PROBLEMS


def _conclusion(verdict: Verdict) -> str:
    if verdict.header is None:
        told = f"{verdict.name}: {verdict.n_trials:,} trials. A run folder holds no report, so no number was recomputed"
        return (
            f"{told}; files, splits, sides and grid are in order" if verdict.is_equal else f"{told}; {_count(verdict)}"
        )
    told = f"{verdict.n_numbers:,} numbers recomputed"
    if not verdict.is_equal:
        return f"{told}; {_count(verdict)}"
    return f"{told}, all equal; {verdict.n_trials:,} trials and {verdict.n_files:,} files in order; seal {verdict.seal}"


def _count(verdict: Verdict) -> str:
    n = len(verdict.differences)
    return f"{n:,} difference{'' if n == 1 else 's'}"
