"""A tuned run: the search, what it chose, the trainings with that, and those with the recipe's own settings."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.run import exit_code
from milbench.commands.terminal import grid, line

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.runs.preparation import Benchmark
    from milbench.runs.tuning import Choice
    from milbench.trials.request import Place


def run_tuned(console: Console, base: Benchmark, *, prune: bool = False) -> int:
    """Exit code of search and trainings; prints what was chosen, and the tables."""
    from milbench.commands import show_run
    from milbench.runs.benchmark import run_benchmark
    from milbench.runs.progress import Progress
    from milbench.runs.tuning import untuned, with_chosen

    code, chosen = search(console, base, prune=prune)
    if chosen is None:
        return code
    tuned = run_benchmark(with_chosen(base, chosen), Progress(console, forecasts=True), prune=prune)
    show_run.results(console, tuned)
    outcomes = [tuned]
    if base.config.tuning.compare and not tuned.left:
        line(console, "the same trainings with the recipe's own settings, to compare")
        outcomes.append(run_benchmark(untuned(base), Progress(console), prune=prune))
        show_run.results(console, outcomes[-1])
    show_run.next_steps(console, outcomes[-1] if outcomes[-1].left else tuned)
    return max(map(exit_code, outcomes))


def search(console: Console, base: Benchmark, *, prune: bool = False) -> tuple[int, Mapping[Place, Choice] | None]:
    """Exit code of the search, and the configuration of every place; None while trials of the search are left."""
    from milbench.commands import show_run
    from milbench.runs.benchmark import run_benchmark
    from milbench.runs.progress import Progress
    from milbench.runs.tuning import choose, searches, warnings_of_budgets, warnings_of_nesting, write_chosen

    n = base.config.tuning.configurations
    for warning in [*warnings_of_nesting(base), *warnings_of_budgets(base)]:
        line(console, f"warning: {warning}")
    for each in searches(base):
        line(console, f"search: {n} configurations of each model, {len(each.trials)} trainings, in {each.run.path}")
        outcome = run_benchmark(each, Progress(console, forecasts=True), prune=prune)
        code, last = exit_code(outcome), each
        show_run.counts(console, outcome)
        if outcome.left:
            show_run.next_steps(console, outcome)
            return code, None
        if base.config.engine.shard:
            line(
                console, "next: run and merge the other shards; then `milbench run` without --shard chooses and trains"
            )
            return code, None
    chosen = choose(base, last)
    files = write_chosen(base, chosen, typed_command())
    show_chosen(console, base, chosen)
    line(console, f"chosen settings: {', '.join(map(str, files))}")
    return EXIT_OK, chosen


def show_chosen(console: Console, base: Benchmark, chosen: Mapping[Place, Choice]) -> None:
    """Print the configuration of every place, with its validation score and that of the recipe's own settings."""
    rows = [
        (
            place.dataset, place.model, *[place.task] * (base.config.tuning.per == "task"),
            str(each.configuration.number), _score(each.score), _score(each.default_score), str(each.configuration),
        )
        for place, each in chosen.items()
    ]  # fmt: skip
    columns = (
        "dataset",
        "model",
        *["task"] * (base.config.tuning.per == "task"),
        "configuration",
        "validation",
        "default",
        "settings",
    )
    grid(
        console, columns, rows, names=("dataset", "model", "settings"), right=("configuration", "validation", "default")
    )


def _score(score: float) -> str:
    return "-" if isnan(score) else f"{score:.3f}"


def typed_command() -> str:
    """What the user typed, as a shell takes it."""
    return shlex.join(["milbench", *sys.argv[1:]])
