"""`milbench datasets`: every dataset of the catalogue, or every endpoint of its TCGA cohorts."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import grid, new_console, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.datasets import Dataset

HELP = "list the datasets"


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
    from milbench.datasets import all_datasets
    from milbench.registry import import_remarks

    if options.endpoints:
        _print_endpoints(new_console())
        return EXIT_OK
    _print_datasets(new_console(), all_datasets(plugins_of(options)).values())
    for remark in import_remarks():
        warn(remark)
    return EXIT_OK


def _print_datasets(console: Console, known: Iterable[Dataset]) -> None:
    """Print every catalogue entry."""
    columns = ("name", "slides", "patients", "tasks", "splits", "what")
    rows = [
        (
            entry.name,
            str(entry.n_slides or "-"),
            str(entry.n_patients or "-"),
            _tasks_of(entry) or "-",
            entry.splits or "-",
            entry.description,
        )
        for entry in known
    ]
    grid(console, columns, rows, names=("name",), right=("slides", "patients"))


def _tasks_of(entry: Dataset) -> str:
    usual, by_name = ", ".join(entry.tasks), ", ".join(entry.optional_tasks)
    return f"{usual}; if --tasks names them: {by_name}" if by_name else usual


def _print_endpoints(console: Console) -> None:
    """Print every endpoint that the catalogue's TCGA cohorts have beside their genes."""
    from milbench.datasets.tcga_endpoints import all_rows

    columns = ("cohort", "endpoint", "kind", "slides", "patients", "patients per class, events, or values")
    rows = [tuple(map(str, row)) for row in all_rows()]
    grid(console, columns, rows, names=("cohort", "endpoint"), right=("slides", "patients"))
