"""`milbench datasets`: every dataset of the catalogue, or every endpoint of its TCGA cohorts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import grid, new_console, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.commands.kept_facts import KeptFacts
    from milbench.datasets import Dataset

HELP = "list the datasets"

COLUMNS = ("name", "slides", "patients", "tasks", "splits", "what")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    parser.add_argument(
        "--endpoints",
        action="store_true",
        help="list the endpoints of the TCGA cohorts instead: kind, slides, patients, events or classes",
    )
    add_plugin_flag(parser, "datasets")


def call(options: argparse.Namespace) -> int:
    """Exit code of printing the datasets, or the endpoints."""
    if options.endpoints:
        _print_endpoints(new_console())
    else:
        _print_datasets(plugins_of(options))
    return EXIT_OK


def _print_datasets(plugins: Sequence[Path]) -> None:
    """Print every catalogue entry: from kept facts, or after importing the catalogue."""
    from milbench.commands.kept_facts import KeptFacts

    kept = KeptFacts("milbench.datasets", "milbench.datasets", is_plain=not plugins)
    remarks: list[str] = []
    rows = kept.get("datasets", lambda values: [tuple(map(str, row)) for row in values])
    if rows is None:
        rows, remarks = _found_rows(kept, plugins)
    grid(new_console(), COLUMNS, rows, names=("name",), right=("slides", "patients"))
    for remark in remarks:
        warn(remark)


def _found_rows(kept: KeptFacts, plugins: Sequence[Path]) -> tuple[list[tuple[str, ...]], list[str]]:
    """A row per entry of the catalogue, kept if all are milbench's own, and what plug-ins changed as they were imported."""
    from milbench.datasets import all_datasets
    from milbench.registry import import_remarks

    known = all_datasets(plugins)
    rows, remarks = [_row(entry) for entry in known.values()], import_remarks()
    if not remarks and all(entry.made_in is None for entry in known.values()):
        kept.put("datasets", rows)
    return rows, remarks


def _row(entry: Dataset) -> tuple[str, ...]:
    return (
        entry.name,
        str(entry.n_slides or "-"),
        str(entry.n_patients or "-"),
        _tasks_of(entry) or "-",
        entry.splits or "-",
        entry.description,
    )


def _tasks_of(entry: Dataset) -> str:
    usual, by_name = ", ".join(entry.tasks), ", ".join(entry.optional_tasks)
    return f"{usual}; if --tasks names them: {by_name}" if by_name else usual


def _print_endpoints(console: Console) -> None:
    """Print every endpoint that the catalogue's TCGA cohorts have beside their genes."""
    from milbench.datasets.tcga_endpoints import all_rows

    columns = ("cohort", "endpoint", "kind", "slides", "patients", "patients per class, events, or values")
    rows = [tuple(map(str, row)) for row in all_rows()]
    grid(console, columns, rows, names=("cohort", "endpoint"), right=("slides", "patients"))
