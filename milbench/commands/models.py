"""`milbench models`: every registered model in a list, and the page of each that is named."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.commands.command import EXIT_OK
from milbench.commands.flags import add_plugin_flag, plugins_of
from milbench.commands.terminal import line, new_console, plain_grid, warn

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.commands.kept_facts import KeptFacts
    from milbench.commands.model_facts import ModelPage, ModelRow
    from milbench.engines.typical_cost import TypicalCost
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
    from milbench.commands.kept_facts import KeptFacts
    from milbench.registry import ENTRY_POINTS

    plugins = plugins_of(options)
    kept = KeptFacts(ENTRY_POINTS, "milbench.models", is_plain=not plugins)
    if not _print_kept(kept, options.names):
        _print_found(kept, options.names, plugins)
    return EXIT_OK


def _print_kept(kept: KeptFacts, words: Sequence[str]) -> bool:
    """Whether all that is asked for was kept; it is printed then, else nothing is."""
    from milbench.commands.model_facts import rows_from_json

    rows = kept.get("models", rows_from_json)
    if rows is None:
        return False
    pages = [kept.get(f"page-{name}", _page_and_cost) for name in _named(words, rows)]
    if None in pages:
        return False
    console = new_console()
    if words:
        _print_pages(console, pages)
    else:
        _print_models(console, rows)
    return True


def _print_found(kept: KeptFacts, words: Sequence[str], plugins: Sequence[Path]) -> None:
    """Import the models, print what was asked for, and keep it if it is of milbench alone."""
    from milbench.commands.model_facts import rows_of
    from milbench.registry import import_remarks, is_baseline, load_models, model_groups

    known, console = load_models(plugins), new_console()
    rows, remarks = rows_of(known, model_groups(known, plugins)), import_remarks()
    kept_pages: dict[str, Any] = {}
    if words:
        _print_pages(console, _found_pages(known, rows, _named(words, rows), plugins, kept_pages))
    else:
        _print_models(console, rows)
    for remark in remarks:
        warn(remark)
    if not remarks and all(map(is_baseline, known.values())):
        for name, values in {"models": rows, **kept_pages}.items():
            kept.put(name, values)


def _named(words: Sequence[str], rows: Sequence[ModelRow]) -> list[str]:
    """Names of the models that `words` ask for, none for no words; raises as `registry.select_models`."""
    from milbench.names import ALL, MODEL_GROUPS
    from milbench.registry import select

    groups = {word: [row.name for row in rows if word in row.groups] for word in MODEL_GROUPS if word != ALL}
    return select("model", words, [row.name for row in rows], groups) if words else []


def _found_pages(
    known: Mapping[str, type[MILModel]],
    rows: Sequence[ModelRow],
    names: Sequence[str],
    plugins: Sequence[Path],
    kept_pages: dict[str, Any],
) -> Iterator[tuple[ModelPage, TypicalCost | None]]:
    """Page and cost of each model; those whose cost could be counted go into `kept_pages`, by the name of their file."""
    from milbench.commands.model_facts import page_of
    from milbench.engines import typical_cost

    groups = {row.name: row.groups for row in rows}
    for name in names:
        page, cost = page_of(name, known[name], groups[name]), typical_cost.typical_cost(known[name], plugins)
        yield page, cost
        if cost is not None:
            kept_pages[f"page-{name}"] = (page.as_json(), cost)


def _page_and_cost(values: Sequence[Any]) -> tuple[ModelPage, TypicalCost]:
    """A page as `_found_pages` keeps it."""
    from milbench.commands.model_facts import page_from_json
    from milbench.engines.typical_cost import TypicalCost

    page, cost = values
    return page_from_json(page), TypicalCost(*cost)


def _print_pages(console: Console, pages: Iterable[tuple[ModelPage, TypicalCost | None]]) -> None:
    """Print pages one below the other, each as soon as it is known."""
    from milbench.commands.model_page import print_page

    for place, (page, cost) in enumerate(pages):
        if place:
            line(console, "")
        print_page(console, page, cost)


def _print_models(console: Console, models: Sequence[ModelRow]) -> None:
    """Print a line per registered model, those of one task and those of all tasks apart, and how to see more."""
    columns = (
        "name".ljust(max(len(model.name) for model in models)),
        "title".ljust(max(len(model.title) for model in models)),
        "group",
        "paper",
    )
    for tasks, heading in HEADINGS.items():
        rows = [
            (model.name, model.title, ", ".join(word for word in model.groups if word != tasks), model.paper)
            for model in models
            if model.tasks == tasks
        ]
        console.print(heading, style="bold", markup=False)
        plain_grid(console, columns, rows)
        line(console, "")
    for hint in HINTS:
        line(console, hint)
