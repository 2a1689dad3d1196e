"""`milbench leaderboard`: one page on all bundles of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.command import EXIT_OK, EXIT_PROBLEMS
from milbench.commands.draws import add_draws_flag, draws_of
from milbench.commands.terminal import say, warn
from milbench.errors import UsageError

HELP = "write one page on all bundles of a folder, each marked if it could be verified"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench leaderboard` on `parser`."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder that holds the bundles")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("leaderboard.html"),
        metavar="FILE",
        help="page to write (default leaderboard.html)",
    )
    add_draws_flag(parser)


def call(options: argparse.Namespace) -> int:
    """Exit code of writing the page: 1 if a bundle could not be read or verified."""
    from milbench.report.fewer_imports import import_little

    import_little()
    from milbench.bundles.leaderboard import leaderboard

    draws = draws_of(options)
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out is {options.out}. Give the page a name that ends in .html.")
    board = leaderboard(options.folder, options.out, draws, say)
    for label, why in board.broken.items():
        warn(f"{label}: {why}")
    say(f"leaderboard: {options.out}")
    is_whole = not board.broken and all(verdict.is_equal for verdict in board.verdicts.values())
    return EXIT_OK if is_whole else EXIT_PROBLEMS
