"""`milbench models`: every registered model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.terminal import grid, new_console, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.models import MILModel

HELP = "list the models"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Plug-ins."""
    parser.add_argument(
        "--plugin", nargs="+", default=[], metavar="FILE", dest="plugins", help="Python files that register models"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of printing the models."""
    from milbench.registry import import_remarks, load_models

    _print_models(new_console(), load_models([Path(plugin) for plugin in options.plugins]))
    for remark in import_remarks():
        warn(remark)
    return EXIT_OK


def _print_models(console: Console, known: Mapping[str, type[MILModel]]) -> None:
    """Print every registered model with what it is and where it comes from; kinds of tasks if a model lacks one."""
    from milbench.endpoints.endpoint import KINDS

    infos = [(name, model.info) for name, model in known.items()]
    lacks_one = any(set(info.kinds) != set(KINDS) for _, info in infos)
    columns = ("name", "title", "tasks", *["kinds"] * lacks_one, "order of patches", "paper", "official code")
    rows = [
        (
            name, info.title, info.tasks,
            *["all" if set(info.kinds) == set(KINDS) else ", ".join(info.kinds)] * lacks_one,
            "matters" if info.order_matters else "-", info.paper, info.official,
        )
        for name, info in infos
    ]  # fmt: skip
    grid(console, columns, rows, names=("name", "title"))
