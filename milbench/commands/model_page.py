"""Model page: all about one model, for `milbench models NAME`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.model_header import header_of
from milbench.commands.terminal import facts, grid, line, listed

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.models import MILModel


def print_page(
    console: Console, name: str, model: type[MILModel], groups: Sequence[str], plugins: Sequence[Path]
) -> None:
    """Print the page of a model; sections of which nothing is known are left out.

    Parameters
    ----------
    groups : words of `--models` that ask for it, besides "all".
    plugins : the files that registered models.
    """
    line(console, f"{name}: {model.info.title}, {_learns(model)}")
    facts(console, _facts(model, groups))
    _print_differences(console, model)
    _print_arguments(console, name, model)
    _print_cost(console, model, plugins)
    _print_probes(console, name)


def _learns(model: type[MILModel]) -> str:
    return "one model for all tasks" if model.info.tasks == "multi" else "one model per task"


def _facts(model: type[MILModel], groups: Sequence[str]) -> list[tuple[str, str]]:
    info, header = model.info, header_of(model)
    official = ", ".join(f"{key} {value}" for key, value in info.official_recipe.items())
    rows = [
        ("groups", ", ".join(groups)),
        ("paper", _text(header.get("paper", ())) or info.paper),
        ("official code", _text(header.get("code", ())) or info.official),
        ("kinds of tasks", ", ".join(info.kinds)),
        ("order of patches", "changes the output" if info.order_matters else "does not matter"),
        ("coordinates", "needed" if info.needs_coords else "not needed"),
        ("official recipe", official or "none declared"),
    ]
    return [(f"  {what}", text) for what, text in rows if text]


def _text(entries: Sequence[str]) -> str:
    """The entries as one text; "" if the header says that there is nothing."""
    text = " ".join(entries)
    return "" if text == "none" else text


def _print_differences(console: Console, model: type[MILModel]) -> None:
    if differs := header_of(model).get("differs"):
        _heading(console, "What differs from the official code")
        listed(console, differs)


def _print_arguments(console: Console, name: str, model: type[MILModel]) -> None:
    """Print the arguments with their defaults, and what a search draws."""
    from milbench.trials.arguments import constructor_arguments
    from milbench.trials.configurations import space_of

    arguments = constructor_arguments(model)
    space = dict(space_of(name, model, {}).rows())
    rows = [(f"model.{key}", str(value), space.pop(f"model.{key}", "-")) for key, value in arguments.items()]
    _heading(console, f"Arguments (--set model.{name}.NAME=VALUE) and what a search draws")
    grid(
        console, ("setting", "default", "tuned"), [*rows, *((key, "the recipe's", draw) for key, draw in space.items())],
        names=("setting", "tuned"),
    )  # fmt: skip


def _print_cost(console: Console, model: type[MILModel], plugins: Sequence[Path]) -> None:
    """Print what one bag costs."""
    from milbench.engines.typical_cost import FEATURES, PATCHES, typical_cost
    from milbench.machine.sizes import bytes_text

    cost = typical_cost(model, plugins)
    _heading(console, f"Cost at the defaults, one bag of {PATCHES:,} patches x {FEATURES:,} features, one binary task")
    if cost is None:
        line(console, "  not counted: the model did not come back with an answer from a small bag")
        return
    counted = "not counted" if cost.multiply_adds is None else _number_text(cost.multiply_adds)
    rows = [
        ("  parameters", f"{cost.parameters:,}"),
        ("  multiply-adds of a forward", counted),
        ("  memory of a training step", f"{bytes_text(cost.step_bytes)}, estimated"),
    ]
    facts(console, rows)


def _number_text(number: float) -> str:
    """ "16.4 million", so that a small model's work is not "0.0 billion"."""
    return f"{number / 1e9:,.1f} billion" if number >= 1e9 else f"{number / 1e6:,.1f} million"


def _print_probes(console: Console, name: str) -> None:
    """Print what small made cohorts showed that the model can learn."""
    from milbench.probes.table import results_of

    if rows := results_of(name):
        _heading(console, "What it can learn (`milbench check`, docs/what_models_learn.md)")
        grid(console, ("test", "verdict", "what it shows"), rows, names=("test", "verdict"))


def _heading(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold", markup=False)


def groups_by_name(groups: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Words of the groups that each model is in, by the model's name."""
    found: dict[str, list[str]] = {}
    for word, names in groups.items():
        for name in names:
            found.setdefault(name, []).append(word)
    return found
