"""`milbench tune`: choose settings on validation sides, and write them into a file that a cohort.yaml can name."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from milbench.commands import run
from milbench.commands.flags import config_of
from milbench.commands.terminal import line, new_console
from milbench.errors import UsageError

HELP = "choose each model's settings on validation sides, and write them into a file"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `run` on `parser`, and where the chosen settings go."""
    run.add_flags(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="a copy of the chosen settings, which `tuned:` in cohort.yaml can name"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of the search: 0 if settings are chosen, 130 if trials are left."""
    from milbench.commands import show_run
    from milbench.commands.tuned_run import search
    from milbench.engines.loky import end_workers
    from milbench.runs.config import USUAL_CONFIGURATIONS
    from milbench.runs.preparation import prepare
    from milbench.runs.tuning import chosen_file, is_tuned

    config = config_of(options)
    if options.tune == 0:
        raise UsageError("--tune is 0, so there is nothing to choose from. Give 1 or more, or leave it out for 24.")
    if not is_tuned(config):
        tuning = replace(config.tuning, configurations=USUAL_CONFIGURATIONS)
        config = replace(config, tuning=tuning)
    console = new_console()
    benchmark = prepare(config, verify_features=options.verify_features)
    if options.out is not None and len(benchmark.entries) > 1:
        raise UsageError(f"--out names one file, and there are {len(benchmark.entries)} cohorts. Tune one at a time.")
    show_run.benchmark_header(console, benchmark, written=True)
    run.try_out(console, benchmark)
    try:
        code, chosen = search(console, benchmark, prune=options.prune)
    finally:
        end_workers()
    if chosen is not None and options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(chosen_file(benchmark, benchmark.entries[0].cohort.name), options.out)
        line(console, f"copied to {options.out}")
    return code
