"""Numbers instead of pictures: whether attention is right, and maps of all slides in one file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.heatmap.models import drawable_models
from milbench.commands.terminal import new_console, say
from milbench.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from milbench.heatmap.report import Evaluation
    from milbench.heatmap.stored import RunCohort

WIDE = 200


def evaluate(cohort: RunCohort, out: Path, options: argparse.Namespace) -> None:
    """Print and write whether the attention of one cohort's models is right."""
    from milbench.heatmap.report import evaluate_cohort, write_evaluation

    folds = cohort.folds if options.fold is None else [checked_fold(cohort, options.fold)]
    found = evaluate_cohort(cohort, drawable_models(cohort, folds, options.models), folds)
    for title, table, column in _tables(cohort.name, found):
        say(title)
        _console().print(_grid(table, column))
    for sentence in found.answers:
        say(sentence)
    for path in write_evaluation(found, out):
        say(str(path))


def checked_fold(cohort: RunCohort, fold: int) -> int:
    """`fold`, if the run has it; raises `UsageError` otherwise."""
    if fold not in cohort.folds:
        raise unknown_name(f"fold of {cohort.name} in run {cohort.run.name}", str(fold), map(str, cohort.folds))
    return fold


def _tables(name: str, found: Evaluation) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Title, table and column of everything that is printed."""
    if found.truth is not None:
        yield f"{name}: AUROC of attention against the truth, positive test {found.bag}s", found.truth, "auroc"
        yield f"{name}: average precision of the same", found.truth, "average_precision"
    if found.curves is not None:
        for column in ("deletion_gain", "insertion_gain"):
            yield f"{name}: {column.replace('_', ' ')} over random order", found.curves, column
    if found.agreement is not None:
        yield f"{name}: Spearman correlation of two folds' maps", found.agreement, "spearman"


def _console() -> Console:
    """The terminal; a file or pipe has no width that heads would have to be cut to."""
    console = new_console()
    return console if console.is_terminal else new_console(width=WIDE)


def _grid(table: pd.DataFrame, column: str) -> Table:
    """Tasks × models of one column."""
    from rich.table import Table

    rows = table.assign(map=table.get("map", "attention"))
    names = rows["title"].where(rows["map"] == "attention", rows["title"] + ", " + rows["map"])
    cells = dict(zip(zip(names, rows["task"], strict=True), rows[column], strict=True))
    shown = Table("task")
    for name in dict.fromkeys(names):
        shown.add_column(name, justify="right", min_width=6, overflow="fold")
    for task in dict.fromkeys(rows["task"]):
        values = (cells.get((name, task)) for name in dict.fromkeys(names))
        shown.add_row(task, *("-" if value is None else f"{value:.3f}" for value in values))
    return shown


def export(cohort: RunCohort, fold: int, options: argparse.Namespace) -> None:
    """Write maps of all slides of the cohort into one file."""
    from rich.progress import track

    from milbench.heatmap.export import export_attention

    console = new_console()
    slides = cohort.cohort.slides["slide_id"]
    bar = iter(track(slides, "slides", console=console, disable=not console.is_terminal))
    next(bar, None)
    names = drawable_models(cohort, [fold], options.models)
    count = export_attention(cohort, names, fold, options.export, lambda: next(bar, None))
    say(f"{options.export}: maps of {count} slides of {cohort.name} by the models of fold {fold}")
