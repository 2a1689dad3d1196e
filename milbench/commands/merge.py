"""`milbench merge`: run folders of shards become one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK, EXIT_SOME_FAILED
from milbench.commands.terminal import line, new_console
from milbench.store.pasteable import pasteable

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.runs.merge import Merged

HELP = "put the run folders of shards together"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which run folders."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the whole; may hold a part of it already")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders of the same study")
    parser.add_argument(
        "--allow-missing-shards", action="store_true", help="if shards are missing, merge those that are there"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of the merge: 3 if trials are missing or contradict each other."""
    from milbench.runs.merge import merge_with_searches

    every = merge_with_searches(options.out, options.runs, allow_missing_shards=options.allow_missing_shards)
    for merged in every:
        _print_merged(new_console(), merged)
    return EXIT_SOME_FAILED if any(merged.left or merged.conflicts for merged in every) else EXIT_OK


def _print_merged(console: Console, result: Merged) -> None:
    """Print what a merge found, and what to do next."""
    from milbench.store.run_folder import TUNING, UNTUNED

    parts = {"": result.n_trials, " left out, damaged": len(result.damaged), " not done anywhere": result.left}
    line(console, ", ".join(f"{count} trials{what}" for what, count in parts.items() if count or not what))
    for trial_id in result.damaged:
        line(console, f"  damaged: {trial_id}")
    for trial_id in result.conflicts:
        line(
            console,
            f"  conflict: {trial_id} has other bytes in another folder; the trial that was in OUT first is kept",
        )
    for note in result.notes:
        line(console, f"  note: {note}")
    line(console, f"run: {result.run.path}")
    if result.run.name == TUNING:
        line(
            console, f"next: the command of the shards without --shard, with --run {pasteable(result.run.path.parent)}"
        )
    elif result.run.name != UNTUNED:
        line(console, f"next: milbench report {pasteable(result.run.path)}")
