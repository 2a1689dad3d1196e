"""Pages of the models, with what `milbench models NAME` prints: `reference/models/NAME.md`."""

from __future__ import annotations

from collections.abc import Iterator

from page_parts import code, plain, table

from milbench.commands.model_facts import ModelPage, ModelRow, page_of, rows_of
from milbench.engines.typical_cost import FEATURES, PATCHES, TypicalCost, typical_cost
from milbench.machine.sizes import bytes_text
from milbench.models import MILModel
from milbench.probes.table import results_of
from milbench.registry import is_baseline, load_models, model_groups

FOLDER = "reference/models"


def pages() -> dict[str, str]:
    """One page per model by path, the list of all first; models of other packages are left out."""
    known = {name: model for name, model in load_models().items() if is_baseline(model)}
    if not known:
        raise ValueError("no model is registered: install milbench before its site is made")
    rows = rows_of(known, model_groups(known))
    made = {f"{FOLDER}/{row.name}.md": "\n".join(_page(row, known[row.name])) for row in rows}
    return {f"{FOLDER}.md": _index(rows), **made}


def _index(rows: list[ModelRow]) -> str:
    lines = [
        (f"[{row.name}](models/{row.name}.md)", plain(row.title), row.tasks, ", ".join(row.groups), plain(row.paper))
        for row in rows
    ]
    names = "\n".join(f"/{FOLDER}/{row.name}" for row in rows)
    text = "The page of each is what `milbench models NAME` prints. To add one of your own, see [Models](/docs/models.md#add-your-own)."
    shown = table(("name", "model", "tasks", "groups", "paper"), lines)
    return f"# Models\n\n{text}\n\n{shown}\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"


def _page(row: ModelRow, model: type[MILModel]) -> Iterator[str]:
    page, cost = page_of(row.name, model, row.groups), typical_cost(model)
    yield f"# {page.name}: {page.title}\n\nIt learns {page.learns}.\n"
    yield table(("", ""), [(what, plain(text)) for what, text in page.facts])
    if page.differs:
        yield "## What differs from the official code\n"
        yield "\n".join(f"- {plain(line)}" for line in page.differs) + "\n"
    yield f"## Equations and arguments\n\n```{{eval-rst}}\n.. autoclass:: {model.__module__}.{model.__qualname__}\n```\n"
    yield from _numbers(page, cost)
    if tests := results_of(page.name):
        yield "## What it can learn\n\nFrom [small made cohorts](/docs/what_models_learn.md) (`milbench check`):\n"
        yield table(("test", "verdict", "what it shows"), [tuple(map(plain, each)) for each in tests])


def _numbers(page: ModelPage, cost: TypicalCost | None) -> Iterator[str]:
    if page.arguments:
        rows = [(code(name), code(default), plain(draws)) for name, default, draws in page.arguments]
        yield f"## Settings\n\n`--set {page.arguments[0][0].replace('model.', f'model.{page.name}.')}=VALUE` sets one.\n"
        yield table(("setting", "default", "what a search draws"), rows)
    if cost is None:
        raise ValueError(f"the cost of {page.name} could not be counted")
    yield f"## Cost\n\nOne bag of {PATCHES:,} patches x {FEATURES:,} features, one binary task, at the defaults. Counted, not measured.\n"
    adds = "not counted" if cost.multiply_adds is None else f"{cost.multiply_adds:,}"
    costs = [
        ("parameters", f"{cost.parameters:,}"),
        ("multiply-adds of a forward", adds),
        ("memory of a training step", f"{bytes_text(cost.step_bytes)}, estimated"),
    ]
    yield table(("what", "how much"), costs)
