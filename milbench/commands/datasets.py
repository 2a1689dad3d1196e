"""`milbench datasets`: every dataset of the catalogue."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import grid, new_console

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
    columns = ("name", "slides", "patients", "tasks", "splits", "what")
    rows = [
        (
            entry.name,
            str(entry.n_slides),
            str(entry.n_patients),
            ", ".join(entry.tasks),
            entry.splits,
            entry.description,
        )
        for entry in known
    ]
    grid(console, columns, rows, names=("name",), right=("slides", "patients"))
