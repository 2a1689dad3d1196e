"""The page of configuration keys, made from the frozen classes that hold them: `reference/keys.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, get_origin

from docstrings import entries, first_paragraph
from page_parts import code, plain, sentence, table

from milbench.cohorts.cohort_file import TYPES, CohortFile
from milbench.runs.config import EngineConfig, RunConfig, TrackingConfig, TuningConfig
from milbench.trials.recipe import Recipe

PATH = "reference/keys.md"
SECTIONS: Mapping[str, type[Any]] = {"tuning": TuningConfig, "engine": EngineConfig, "tracking": TrackingConfig}
ELSEWHERE = "see [Configuration](/docs/configuration.md)"
"""For keys that the classes leave to that page."""


def pages() -> dict[str, str]:
    """The one page, by its path."""
    return {PATH: "\n".join(_page())}


def _page() -> Iterator[str]:
    yield "# Configuration keys\n\nKeys of `run.yaml`, of `--set KEY=VALUE` and of `cohort.yaml`, with their defaults.\n"
    yield f"## A run\n\n{_table(RunConfig, leave_out=SECTIONS)}"
    for name, section in SECTIONS.items():
        yield f"## {name}\n\n{plain(sentence(first_paragraph(section)))}\n\n{_table(section, name)}"
    yield f"## trainer\n\nThe defaults are those of the protocol `m4`.\n\n{_table(Recipe, 'trainer', leave_out=('name', 'model'))}"
    yield f"## cohort.yaml\n\n{_cohort()}"


def _table(section: type[Any], name: str = "", leave_out: Any = ()) -> str:
    says = entries(section, "Attributes")
    rows = [
        (code(f"{name}.{each.name}".strip(".")), _default(each), _said(says, each.name))
        for each in fields(section)
        if each.name not in leave_out
    ]
    return table(("key", "default", "what it is"), rows)


def _said(says: Mapping[str, str], name: str) -> str:
    text = says.get(name, "")
    return ELSEWHERE if not text or "docs/" in text else plain(text)


def _default(each: Field[Any]) -> str:
    value = each.default_factory() if each.default_factory is not MISSING else each.default
    if value is MISSING:
        return "needed"
    if isinstance(value, tuple) or get_origin(each.type) is tuple:
        value = list(value)
    return (
        code(value)
        if value not in ("", None, {})
        else "none"
        if value is None
        else code("{}")
        if value == {}
        else "empty"
    )


def _cohort() -> str:
    says = entries(CohortFile, "Attributes")
    rows = [
        (code(key), what, plain(says.get(key, says.get("tasks", "") if key == "tasks" else "")))
        for key, (_, what) in TYPES.items()
    ]
    return "Each key is explained in [Cohorts](/docs/cohorts.md).\n\n" + table(
        ("key", "what it must be", "what it is"), rows
    )
