"""`milbench models`: every registered model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import grid, line, new_console, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.models import MILModel

HELP = "list the models"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Names and plug-ins."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="show all about these models: arguments, recipe, search space"
    )
    add_plugin_flag(parser, "models")


def call(options: argparse.Namespace) -> int:
    """Exit code of printing the models."""
    from milbench.registry import import_remarks, load_models, select

    known = load_models(plugins_of(options))
    if options.names:
        for name in select("model", options.names, known):
            _print_model(new_console(), name, known[name])
    else:
        _print_models(new_console(), known)
    for remark in import_remarks():
        warn(remark)
    return EXIT_OK


def _print_model(console: Console, name: str, model: type[MILModel]) -> None:
    """Print what the model is, its arguments, its official recipe where it differs, and what a search draws."""
    from milbench.trials.arguments import constructor_arguments
    from milbench.trials.configurations import space_of

    info, arguments = model.info, constructor_arguments(model)
    line(
        console, f"{name}: {info.title}, {'one model for all tasks' if info.tasks == 'multi' else 'one model per task'}"
    )
    for what, text in (
        ("paper", info.paper),
        ("official code", info.official),
        ("kinds of tasks", ", ".join(info.kinds)),
    ):
        if text:
            line(console, f"  {what}: {text}")
    official = ", ".join(f"{key} {value}" for key, value in info.official_recipe.items())
    line(console, f"  official recipe: {official or 'none declared'}")
    space = dict(space_of(name, model, {}).rows())
    rows = [(f"model.{key}", str(value), space.pop(f"model.{key}", "-")) for key, value in arguments.items()]
    grid(
        console, ("setting", "default", "tuned"), [*rows, *((key, "the recipe's", draw) for key, draw in space.items())],
        names=("setting", "tuned"),
    )  # fmt: skip


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
