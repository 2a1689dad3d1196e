"""Docstrings: what a module, class or function says of itself, in parts that a page can place."""

from __future__ import annotations

import inspect
import re
from typing import Any

ENTRY = re.compile(r"^(?P<names>\*{0,2}\w[\w, *]*?) : (?P<text>.+)$")
"""`name : what it is`, as docstrings here say it; the type stands in the signature."""

SECTIONS = ("Parameters", "Attributes", "Raises", "Returns", "Yields")


def first_paragraph(thing: Any) -> str:
    """The first paragraph of its docstring, in one line."""
    return " ".join(_text(thing).split("\n\n")[0].split())


def _text(thing: Any) -> str:
    text = inspect.getdoc(thing)
    if not text:
        raise ValueError(f"{thing} has no docstring")
    return text


def entries(thing: Any, section: str) -> dict[str, str]:
    """What the section says, by name; one line may tell of several names, each of which gets it."""
    found: dict[str, str] = {}
    for names, text in _entries(section_lines(_text(thing).splitlines(), section)):
        found |= {name.strip(): text for name in names.split(",")}
    return found


def section_lines(lines: list[str], section: str) -> list[str]:
    """The lines below a section's rule, until the next section."""
    heads = [place for place, line in enumerate(lines[:-1]) if _is_head(line, lines[place + 1])]
    start = next((place for place in heads if lines[place].strip() == section), None)
    if start is None:
        return []
    end = next((place for place in heads if place > start), len(lines))
    return lines[start + 2 : end]


def _is_head(line: str, below: str) -> bool:
    return line.strip() in SECTIONS and below.strip() == "-" * len(line.strip())


def _entries(lines: list[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in lines:
        if match := ENTRY.match(line):
            found.append((match["names"], match["text"]))
        elif found and line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def with_text_below(lines: list[str]) -> list[str]:
    """A docstring whose entries have their text on a line of its own: beside the name, Sphinx would take it for a type."""
    out: list[str] = []
    section = ""
    for place, line in enumerate(lines):
        if place + 1 < len(lines) and _is_head(line, lines[place + 1]):
            section = line.strip()
        match = ENTRY.match(line) if section else None
        out += [match["names"], f"    {match['text']}"] if match else [line]
    return out
