"""`milbench models`: every registered model in a list, and the page of each that is named."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import line, new_console, plain_grid, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.models import MILModel

HELP = "list the models, or tell all about some"

HEADINGS = {"single": "one model per task (group single)", "multi": "one model for all tasks (group multi)"}

HINTS = (
    "--models takes names, patterns, these groups and all (default: study, plugins).",
    "`milbench models NAME` shows a model's page: paper, code, arguments, cost.",
)
"""What the list ends with."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Names and plug-ins."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="tell all about these models (names, patterns or groups): paper, arguments, search space, cost",
    )
    add_plugin_flag(parser, "models")


def call(options: argparse.Namespace) -> int:
    """Exit code of printing the models."""
    from milbench.commands.model_page import groups_by_name, print_page
    from milbench.registry import import_remarks, load_models, model_groups, select_models

    plugins = plugins_of(options)
    known = load_models(plugins)
    groups, console = groups_by_name(model_groups(known, plugins)), new_console()
    if options.names:
        for place, name in enumerate(select_models(options.names, known, plugins)):
            if place:
                line(console, "")
            print_page(console, name, known[name], groups[name], plugins)
    else:
        _print_models(console, known, groups)
    for remark in import_remarks():
        warn(remark)
    return EXIT_OK


def _print_models(console: Console, known: Mapping[str, type[MILModel]], groups: Mapping[str, Sequence[str]]) -> None:
    """Print a line per registered model, those of one task and those of all tasks apart, and how to see more."""
    infos = [model.info for model in known.values()]
    columns = (
        "name".ljust(max(len(name) for name in known)),
        "title".ljust(max(len(info.title) for info in infos)),
        "group",
        "paper",
    )
    for tasks, heading in HEADINGS.items():
        rows = [
            (name, model.info.title, ", ".join(word for word in groups[name] if word != tasks), model.info.paper)
            for name, model in known.items()
            if model.info.tasks == tasks
        ]
        console.print(heading, style="bold", markup=False)
        plain_grid(console, columns, rows)
        line(console, "")
    for hint in HINTS:
        line(console, hint)
