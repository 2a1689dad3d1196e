"""`milbench status`: what of a run is done, running, failed and left."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.chosen_run import run_at
from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import grid, line, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.runs.status import RunStatus
    from milbench.store.run import Run

HELP = "show what of a run is done, running, failed and left; also while it runs"

WATCH_SECONDS = 5.0

MAX_DAMAGED = 8
"""Damaged trials that are named; the others are counted."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` which run."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder (default: the newest in runs/)")
    parser.add_argument(
        "--watch", action="store_true", help="look again every few seconds, until Ctrl-C or all is done"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of printing what is done, again and again with --watch."""
    from milbench.runs.status import survey

    with suppress(KeyboardInterrupt):  # the end of watching, not of the run
        while True:
            runs = _with_search(options.run)
            states = [survey(run) for run in runs]
            for run, found in zip(runs, states, strict=True):
                _print_status(new_console(), run, found)
            counts = [count for found in states for count in found.counts.values()]
            if not options.watch or not any(count.left or count.running for count in counts):
                break
            time.sleep(WATCH_SECONDS)
    return EXIT_OK


def _with_search(path: Path | None) -> list[Run]:
    """The search of a tuned run, and the run as soon as it has begun."""
    from milbench.store.run import holds_run, open_run
    from milbench.store.run_folder import TUNING

    if path is not None and holds_run(path / TUNING) and not holds_run(path):
        return [open_run(path / TUNING)]
    run = run_at(path)
    return [*([open_run(run.path / TUNING)] if holds_run(run.path / TUNING) else []), run]


def _print_status(console: Console, run: Run, found: RunStatus) -> None:
    """Print trials by model and dataset, and who computes what right now."""
    from milbench.machine.durations import duration
    from milbench.machine.sizes import bytes_text
    from milbench.store.question import stale_sentences
    from milbench.store.run_folder import TUNING

    whole = run.path.parent if run.path.name == TUNING else run.path
    again = f"milbench run --config {run.path / 'run.yaml'} --run {whole}"
    columns = ("dataset", "model", "done", "running", "failed", "left")
    rows = [
        (*pair, *(str(number) for number in (count.done, count.running, count.failed, count.left)))
        for pair, count in found.counts.items()
    ]
    grid(console, columns, rows, names=columns[:2], right=columns[2:])
    for trial_id, claim in found.running:
        line(console, f"running: {trial_id} on {claim.host}, process {claim.pid}, "
              f"for {duration(max(time.time() - claim.since, 0))}")  # fmt: skip
    if found.shards:
        line(console, f"shards in this folder: {', '.join(found.shards)}")
    for sentence in stale_sentences(found.stale):
        line(console, f"{sentence}: kept, left out of every table (milbench run --prune deletes them)")
    for trial_id, why in list(found.damaged.items())[:MAX_DAMAGED]:
        line(console, f"damaged: {trial_id}: {why}")
    if found.damaged:
        line(console, f"damaged trials, in all: {len(found.damaged)}. `{again}` computes them again")
    if found.leftovers:
        line(console, f"left by processes that died: {len(found.leftovers)} files and folders, "
              f"{bytes_text(found.leftover_bytes)}. `{again}` deletes them")  # fmt: skip
    line(console, f"run: {run.path}")
