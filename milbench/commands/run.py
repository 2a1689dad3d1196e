"""`milbench run`: train and test what is not done yet."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED
from milbench.commands.flags import add_engine_flags, add_what_flags, config_of
from milbench.commands.terminal import line, new_console
from milbench.errors import MilbenchError

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.runs.benchmark import Outcome
    from milbench.runs.config import RunConfig
    from milbench.runs.preparation import Benchmark

HELP = "train and test what is not done yet, then print the table"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put on `parser` what to compare, where and how."""
    add_what_flags(parser)
    running = parser.add_argument_group("running")
    running.add_argument(
        "--run", metavar="FOLDER", help="run folder (default: runs/ and a name made from what is compared)"
    )
    add_engine_flags(parser)
    running.add_argument("--no-weights", action="store_true", help="do not keep the best weights")
    running.add_argument("--no-tracking", action="store_true", help="do not log to MLflow")
    running.add_argument("--tracking-uri", metavar="URI", help="MLflow server or database (default: runs/mlflow.db)")
    running.add_argument(
        "--prune",
        action="store_true",
        help="delete trials of other labels, features, splits or settings from the run folder",
    )
    running.add_argument(
        "--verify-features",
        action="store_true",
        help="read all feature files whole, also those whose size and time stand as the run folder remembers them",
    )
    running.add_argument(
        "--resume",
        action="store_true",
        help="go on where the run stopped; this is always done, and finished trials are kept",
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of the run: 0 if all is done, 3 if trials failed, 130 if some are left."""
    console, config = new_console(), config_of(options)
    line(console, asked(config))  # before the imports below, which take a second or two

    from milbench.commands import show_run
    from milbench.commands.tuned_run import run_tuned
    from milbench.engines.loky import end_workers
    from milbench.runs.preparation import prepare
    from milbench.runs.tuning import is_tuned

    benchmark = prepare(config, verify_features=options.verify_features)
    show_run.benchmark_header(console, benchmark, written=True)
    try_out(console, benchmark)
    try:
        if is_tuned(benchmark.config):
            return run_tuned(console, benchmark, prune=options.prune)
        return run_and_show(console, benchmark, prune=options.prune)
    finally:
        end_workers()


def asked(config: RunConfig) -> str:
    """A sentence on what a configuration asks for, before any of it is read: "reading digits for the models study ..."."""
    cohorts = ", ".join((*config.datasets, *config.cohorts))
    numbers = {"folds": config.folds, "seeds": config.seeds}
    parts = [f"{what} {', '.join(map(str, values))}" for what, values in numbers.items() if values]
    return ", ".join([f"reading {cohorts} for the models {' '.join(config.models)}", *parts])


def try_out(console: Console, benchmark: Benchmark) -> None:
    """Refuse what cannot run before anything takes time, and print what small bags showed of the models."""
    from milbench.runs.benchmark import refuse_what_cannot_run
    from milbench.runs.tryout import try_models

    refuse_what_cannot_run(benchmark)
    for warning in try_models(benchmark).warnings:
        line(console, f"warning: {warning}")


def run_and_show(console: Console, benchmark: Benchmark, *, prune: bool = False) -> int:
    """Exit code of running the trials that are left; prints the table."""
    from milbench.commands import show_run
    from milbench.runs.benchmark import run_benchmark
    from milbench.runs.progress import Progress

    outcome = run_benchmark(benchmark, Progress(console, forecasts=True), prune=prune)
    show_run.outcome(console, outcome)
    return exit_code(outcome)


def exit_code(outcome: Outcome) -> int:
    """0 if all is done, 3 if trials failed, 130 if some are left; raises what bad input said that stopped the run."""
    if outcome.refused:
        raise MilbenchError(outcome.refused)
    if outcome.left:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if outcome.failed or outcome.skipped else EXIT_OK
