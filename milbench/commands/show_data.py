"""What `milbench data` prints: tables, findings and progress bars; nothing computed here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from milbench.intake.check import Check, Problem
    from milbench.intake.inspection import Watch

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def watcher(console: Console) -> Watch:
    """A progress bar over slides on a terminal; silent elsewhere."""

    def watch(slides: Iterable[str], what: str) -> Iterable[str]:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            yield from bar.track(list(slides))

    return watch


def facts(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, markup=False)


def check(console: Console, result: Check) -> None:
    """Print facts, positives by fold, and the findings, worst first."""
    facts(console, result.facts)
    if len(result.folds):
        console.print(fold_table(result.folds))
    for problem in result.problems:
        _problem(console, problem)
    counts = {severity: sum(p.severity == severity for p in result.problems) for severity in COLOURS}
    found = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items() if n) or "nothing wrong"
    console.print(f"{'passed' if result.passed else 'NOT passed'}: {found}", markup=False, highlight=False)


def fold_table(audit: pd.DataFrame) -> Table:
    """Positives / labelled slides of every task, by side; validation sides of all folds in one cell."""
    table = Table(title="positive / labelled slides")
    for name in ("task", "test", "validation, fold by fold"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task, rows in audit.groupby("task", sort=False):
        sides = {role: [_share(row) for row in rows[rows["role"] == role].itertuples()] for role in ("test", "val")}
        tests = sides["test"] if len(set(sides["test"])) > 1 else sides["test"][:1]
        table.add_row(str(task), "  ".join(tests), "  ".join(sides["val"]))
    return table


def _share(row: object) -> str:
    positives, negatives = row.positives, row.negatives  # type: ignore[attr-defined]
    return f"{positives}/{positives + negatives}"


def _problem(console: Console, problem: Problem) -> None:
    console.print(f"{problem.severity}: ", style=COLOURS[problem.severity], end="", markup=False)
    console.print(
        f"{problem.what.removesuffix('.')}. {problem.mend}".strip(), markup=False, highlight=False, soft_wrap=True
    )


def line(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
