"""`milbench datasets`: every dataset of the catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import new_console

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.datasets import Dataset

HELP = "list the datasets"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put no flag on `parser`: the command takes none."""


def call(options: argparse.Namespace) -> int:
    """Exit code of printing the datasets."""
    from milbench.datasets import all_datasets

    _print_datasets(new_console(), all_datasets().values())
    return EXIT_OK


def _print_datasets(console: Console, known: Iterable[Dataset]) -> None:
    """Print every catalogue entry."""
    from rich.table import Table

    table = Table()
    table.add_column("name", no_wrap=True)
    for column in ("slides", "patients", "tasks", "splits", "what"):
        table.add_column(column, justify="right" if column in {"slides", "patients"} else "left")
    for entry in known:
        tasks = ", ".join(entry.tasks)
        table.add_row(entry.name, str(entry.n_slides), str(entry.n_patients), tasks, entry.splits, entry.description)
    console.print(table)
