"""What `milbench reproduce` prints: what each part needs, what failed, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.console import Console

from milbench.commands.terminal import grid, line
from milbench.store.pasteable import pasteable
from milbench.study.parts import MAIN

if TYPE_CHECKING:
    from milbench.runs.benchmark import Outcome
    from milbench.study.reproduce import Study


def plan(console: Console, study: Study) -> None:
    """Print part by part how many trainings it needs, how many others need too, and how many are done."""
    columns = ("part", "run folders", "trainings", "shared with other parts", "done")
    rows = [
        (part, ", ".join(dict.fromkeys(name for name, _ in pairs)) or "-", str(len(pairs)), str(_shared(study, part)),
         str(study.done(pairs)))
        for part, pairs in study.trials.items()
    ]  # fmt: skip
    grid(console, columns, rows, names=("part",), right=columns[2:])
    every = [(name, trial) for name, benchmark in study.variants.items() for trial in benchmark.trials]
    line(console, f"{study.n_trainings} distinct trainings, {study.done(every)} done; {study.request.folder}")
    for name, benchmark in study.variants.items():
        if benchmark.config.tasks:
            line(console, f"  {name}: M4 on {', '.join(benchmark.config.tasks)} ({benchmark.config.datasets[0]})")


def _shared(study: Study, part: str) -> int:
    others = {trial.key for name, pairs in study.trials.items() if name != part for _, trial in pairs}
    return sum(trial.key in others for _, trial in study.trials[part])


def announced(console: Console, name: str) -> Console:
    """The console, with the name of the run folder whose trials follow."""
    line(console, f"{name}:")
    return console


def failures(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print what failed, and that no report was written."""
    for outcome in outcomes:
        for failure in outcome.run.failures():
            line(console, f"  failed: {outcome.run.name}/{failure['id']}: {failure['type']}: {failure['message']}")
    line(
        console,
        "no report was written, because tables with gaps mislead. Give the same command again: it tries failed trials anew and keeps finished ones.",
    )


def closing(console: Console, study: Study, index: Path) -> None:
    """Print where the report lies, and what to do next."""
    main = study.variants[MAIN].run
    line(console, f"report: {index}")
    if "fig5" in study.request.parts:
        line(
            console,
            f"more panels like Fig. 5: milbench heatmap {pasteable(main.path)} --slides top-tp,top-fp,top-fn --experts",
        )
    if study.request.tracking and main.trials():
        database = (main.path.parent / "mlflow.db").absolute()
        line(console, f"next: milbench ui --uri {quote(f'sqlite:///{database}')}")
