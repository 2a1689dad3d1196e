"""The page of formats, made from the readers: `reference/formats.md`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from docstrings import first_paragraph

import milbench.formats
import milbench.labels

PATH = "reference/formats.md"


def pages() -> dict[str, str]:
    """The one page, by its path."""
    features = _section(
        "Features", "Each reader says which tool writes its files, and what it takes from them.", milbench.formats
    )
    labels = _section("Labels", "Each reader knows a table by its columns.", milbench.labels)
    text = "[Bring your own features](/docs/features.md) tells how milbench recognises a format, and what to do with others."
    return {PATH: f"# Formats\n\n{text}\n\n{features}\n{labels}"}


def _section(title: str, says: str, room: ModuleType) -> str:
    readers = list(_readers(room))
    if not readers:
        raise ValueError(f"no module of {room.__name__} reads files: the readers have moved")
    parts = [f"### {_title(each)}\n\n```{{eval-rst}}\n.. automodule:: {each}\n```\n" for each in readers]
    return "\n".join([f"## {title}\n\n{says}\n", *parts])


def _title(reader: str) -> str:
    """The start of the reader's first sentence, which names the tool: "CLAM (mahmoodlab/CLAM)"."""
    return re.split(r"[:,]| \(", first_paragraph(import_module(reader)))[0].replace("`", "")


def _readers(room: ModuleType) -> Iterator[str]:
    """Modules that can say of a file whether it is theirs, or that take nothing else than its path."""
    for each in iter_modules(room.__path__):
        module = import_module(f"{room.__name__}.{each.name}")
        own = {
            name: member
            for name, member in inspect.getmembers(module, inspect.isfunction)
            if member.__module__ == module.__name__
        }
        heads = [member for name, member in own.items() if name.startswith("head")]
        alone = any(len(inspect.signature(head).parameters) == 1 for head in heads)
        if alone or "recognises" in own or (room is milbench.labels and "read" in own):
            yield module.__name__
