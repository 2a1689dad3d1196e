"""Model page: all about one model, for `milbench models NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milbench.commands.terminal import facts, grid, line, listed

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.commands.model_facts import ModelPage
    from milbench.engines.typical_cost import TypicalCost


def print_page(console: Console, page: ModelPage, cost: TypicalCost | None) -> None:
    """Print the page of a model; sections of which nothing is known are left out.

    Parameters
    ----------
    cost : of one bag of usual size; None if it was not counted.
    """
    line(console, f"{page.name}: {page.title}, {page.learns}")
    facts(console, [(f"  {what}", text) for what, text in page.facts])
    if page.differs:
        _heading(console, "What differs from the official code")
        listed(console, page.differs)
    _heading(console, f"Arguments (--set model.{page.name}.NAME=VALUE) and what a search draws")
    grid(console, ("setting", "default", "tuned"), page.arguments, names=("setting", "tuned"))
    _print_cost(console, cost)
    _print_probes(console, page.name)


def _print_cost(console: Console, cost: TypicalCost | None) -> None:
    """Print what one bag costs."""
    from milbench.engines.typical_cost import FEATURES, PATCHES
    from milbench.machine.sizes import bytes_text

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
