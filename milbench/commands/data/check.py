"""`milbench data check`: labels against features."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK, EXIT_PROBLEMS
from milbench.commands.data.chosen_cohort import add_cohort_flags, data_root_of, file_or_dataset
from milbench.commands.terminal import COLOURS, facts, finding, new_console, watcher

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from milbench.intake.check import Check

HELP = "check labels against features; lists every problem, worst first"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    add_cohort_flags(parser)
    parser.add_argument("--splits", default="", metavar="NAME|FILE", help="protocol to count positives under")
    parser.add_argument(
        "--deep", action="store_true", help="read every value: NaN, zeros, constants, duplicates, checksums"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of the check: 1 if it found errors."""
    from milbench.datasets import Dataset
    from milbench.intake.check import check_cohort, check_loaded

    console = new_console()
    watch, found = watcher(console), file_or_dataset(options)
    if isinstance(found, Dataset):
        cohort = found.load(data_root_of(options), allow_missing=False)
        result = check_loaded(cohort, watch, splits=options.splits, deep=options.deep)
    else:
        result = check_cohort(found, watch, splits=options.splits, deep=options.deep)
    _print_check(console, result)
    return EXIT_OK if result.passed else EXIT_PROBLEMS


def _print_check(console: Console, result: Check) -> None:
    """Print facts, positives by fold, and the findings, worst first."""
    facts(console, result.facts)
    if len(result.folds):
        console.print(_fold_table(result.folds, result.bag))
    for problem in result.problems:
        finding(console, problem)
    counts = {severity: sum(p.severity == severity for p in result.problems) for severity in COLOURS}
    found = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts.items() if n) or "nothing wrong"
    console.print(f"{'passed' if result.passed else 'NOT passed'}: {found}", markup=False, highlight=False)


def _fold_table(audit: pd.DataFrame, bag: str) -> Table:
    """Positives or events / labelled bags of every task, by side; validation sides of all folds in one cell.

    Of classes each one's number, of scores that of known ones.
    """
    from rich.table import Table

    from milbench.labels.finding import MANY_TASKS, SHOWN

    others = set(audit["kind"]) - {"binary"}
    title = "positive / labelled slides" + "; events / labelled slides" * ("survival" in others)
    title += "; slides of each class" * bool(others & {"multiclass", "ordinal"})
    title += "; slides with a score" * ("regression" in others)
    table = Table(title=title.replace("slides", f"{bag}s"))
    for name in ("task", "test", "validation, fold by fold"):
        table.add_column(name, justify="left" if name == "task" else "right", overflow="fold")
    tasks = list(dict.fromkeys(audit["task"]))
    shown = tasks if len(tasks) <= MANY_TASKS else tasks[:SHOWN]
    for task, rows in audit[audit["task"].isin(shown)].groupby("task", sort=False):
        sides = {role: [_share(row) for row in rows[rows["role"] == role].itertuples()] for role in ("test", "val")}
        tests = sides["test"] if len(set(sides["test"])) > 1 else sides["test"][:1]
        table.add_row(str(task), "  ".join(tests), "  ".join(sides["val"]))
    if len(shown) < len(tasks):
        table.add_row(f"and {len(tasks) - len(shown)} more tasks", "", "")
    return table


def _share(row: object) -> str:
    counts, kind = row.counts, row.kind  # type: ignore[attr-defined]
    return f"{counts[1]}/{sum(counts)}" if kind in ("binary", "survival") else "·".join(map(str, counts))
