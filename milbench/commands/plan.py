"""`milbench plan`: what `milbench run` would do."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import TYPE_CHECKING

from milbench.commands import run
from milbench.commands.command import EXIT_OK
from milbench.commands.flags import config_of
from milbench.commands.terminal import grid, line, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.runs.preparation import Benchmark

HELP = "show what `run` would do: trials, slides, an estimate"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `run` on `parser`: `plan` explains that command line."""
    run.add_flags(parser)


def call(options: argparse.Namespace) -> int:
    """Exit code of printing the plan."""
    from milbench.commands.show_run import benchmark_header
    from milbench.runs.preparation import prepare
    from milbench.runs.tuning import is_tuned

    console = new_console()
    benchmark = prepare(config_of(options), verify_features=options.verify_features)
    benchmark_header(console, benchmark, written=False)
    if is_tuned(benchmark.config):
        _print_tuned(console, benchmark)
    else:
        _print_plan(console, benchmark)
    return EXIT_OK


def _print_tuned(console: Console, base: Benchmark) -> None:
    """Print the plan of the search, then that of the trainings with what it chose or will choose."""
    from milbench.runs.tuning import chosen_before, searches, untuned, with_chosen

    search = next(searches(base))
    line(console, _budget(search))
    _print_plan(console, search)
    chosen = chosen_before(base)
    if chosen is not None:
        line(console, "then the trainings with the chosen settings:")
        _print_plan(console, with_chosen(base, chosen))
    else:
        line(console, f"then {len(base.trials)} trainings with the chosen settings")
    if base.config.tuning.compare:
        left = len(untuned(base).unfinished_trials())
        line(console, f"and {left} trainings with the recipe's own settings, to compare")


def _budget(search: Benchmark) -> str:
    """What a search costs every model: configurations, and bags that a model sees, which are alike for all."""
    tuning = search.config.tuning
    bags = {entry.cohort.name: len(entry.split.slides(entry.cohort.slides, 0, "train")) for entry in search.entries}
    per_model: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for trial in search.trials:
        per_model[trial.model, trial.tasks] += bags[trial.dataset] * trial.recipe.epochs
    fewest, most = min(per_model.values()), max(per_model.values())
    steps = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    rungs = "; the first rung of a search by halving" if tuning.halving else ""
    return (
        f"search: {tuning.configurations} configurations of each model, {steps} bag-steps per model and group of tasks "
        f"(training bags of a fold x epochs x trainings){rungs}"
    )


def _print_plan(console: Console, benchmark: Benchmark) -> None:
    """Print numbers of trials by model and dataset, of bags, and a rough estimate of time."""
    from milbench.machine.durations import duration
    from milbench.runs.changes import changes_of
    from milbench.runs.estimate import estimated_seconds
    from milbench.runs.tryout import try_models

    for sentence in changes_of(benchmark, will_run=False):
        line(console, f"  changed: {sentence}")
    tried = try_models(benchmark)
    for warning in tried.warnings:
        line(console, f"warning: {warning}")
    todo = [trial for trial in benchmark.trials if benchmark.run.trial(trial.id) is None]
    columns = ("dataset", "model", "trials", "to do", "epochs", "bags per trial")
    planned = Counter((trial.dataset, trial.model) for trial in benchmark.trials)
    left = Counter((trial.dataset, trial.model) for trial in todo)
    recipes = {(trial.dataset, trial.model): trial.recipe for trial in benchmark.trials}
    sizes = {entry.cohort.name: len(entry.cohort.slides) for entry in benchmark.entries}
    rows = [
        (*pair, str(count), str(left[pair]), str(recipes[pair].epochs), str(sizes[pair[0]]))
        for pair, count in planned.items()
    ]
    grid(console, columns, rows, names=columns[:2], right=columns[2:])
    seconds, how = estimated_seconds(benchmark, without=tried.lost)
    line(console, f"{len(benchmark.trials)} trials, {len(todo)} to do; about {duration(seconds)} with "
          f"{os.cpu_count()} cores ({how})")  # fmt: skip
