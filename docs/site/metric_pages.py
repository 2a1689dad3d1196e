"""The page of metrics, made from the code that computes them: `reference/metrics.md`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from docstrings import first_paragraph
from page_parts import code, plain, sentence, table

from milbench import metrics
from milbench.endpoints.endpoint import Kind
from milbench.stats import kind_metrics
from milbench.stats.metric import METRICS

PATH = "reference/metrics.md"
NAMED_ELSEWHERE = {
    "threshold": "youden_threshold",
    "tau_days": "tau",
    "integrated_brier": "integrated_brier",
    **{f"auc_{months}_months": "time_dependent_auc" for months in kind_metrics.MONTHS},
}
"""Functions of columns whose place in the source does not name them."""

ROOMS = ("binary", "multiclass", "ordinal", "regression", "survival", "curves")


def pages() -> dict[str, str]:
    """The one page, by its path."""
    return {PATH: "\n".join(_page())}


def _page() -> Iterator[str]:
    yield "# Metrics\n\nAll are computed by milbench itself ([rules, choices and sources](/docs/endpoints.md#metrics)).\n"
    yield "## What ranks models\n"
    rows = [
        (kind, each.title, code(each.name), each.chance, f"{each.worst:g} to {each.best:g}", each.level)
        for kind, each in METRICS.items()
    ]
    yield table(("kind of task", "metric", "column", "chance", "scale", "of"), rows)
    yield "## Columns of the report's files\n\n`score` stands for the metric that ranks models; files call it by its own name.\n"
    for kind in METRICS:
        yield f"### {kind}\n\n{table(('column', 'what it is'), _columns(kind))}"
    yield "## Definitions\n"
    for room in ROOMS:
        yield f"### {room}\n\n```{{eval-rst}}\n.. automodule:: milbench.metrics.{room}\n   :no-index:\n\n"
        yield "\n".join(f".. autofunction:: milbench.metrics.{name}" for name in _functions(room)) + "\n```\n"


def _functions(room: str) -> list[str]:
    """Public functions of one file of the room, in the order in which they stand there."""
    module = f"milbench.metrics.{room}"
    found = [name for name in metrics.__all__ if getattr(getattr(metrics, name), "__module__", "") == module]
    functions = [name for name in found if inspect.isfunction(getattr(metrics, name))]
    return sorted(functions, key=lambda name: inspect.getsourcelines(getattr(metrics, name))[1])


def _columns(kind: Kind) -> Iterator[tuple[str, str]]:
    """Columns of a kind, with what their function says of itself."""
    computed = _computed_by(f"_{kind}")
    for name in kind_metrics.COLUMNS[kind]:
        function = computed.get(name) or NAMED_ELSEWHERE[name]
        says = plain(sentence(first_paragraph(getattr(metrics, function))))
        yield code(name), f"{says} {{func}}`~milbench.metrics.{function}`"


def _computed_by(function: str) -> dict[str, str]:
    """By column, the function of `milbench.metrics` that computes it, read from the source of the function that fills the columns."""
    tree = ast.parse(inspect.getsource(getattr(kind_metrics, function)))
    found: dict[str, str] = {}
    for each in ast.walk(tree):
        if isinstance(each, ast.Dict):
            for key, value in zip(each.keys, each.values, strict=True):
                if isinstance(key, ast.Constant):
                    found[str(key.value)] = next(_metrics_in(value), "")
                elif key is None and isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
                    found |= _computed_by(value.func.id)
    return found


def _metrics_in(value: ast.AST) -> Iterator[str]:
    for each in ast.walk(value):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "metrics":
            yield each.attr
