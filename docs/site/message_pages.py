"""The page of messages, made from every error that the code raises: `reference/messages.md`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from docstrings import first_paragraph
from page_parts import code, plain, sentence, table

import milbench
from milbench import errors

PATH = "reference/messages.md"
VALUE = "…"
"""Stands in a message for what is told of your files and words."""

FEWEST_WORDS = 5
"""Of a message as the code has it: shorter ones are made of values alone, and cannot be found by their words."""

LEAST_FOUND = 100
"""Messages below which the page would be a lie: the code that raises them has changed its ways."""


class Message(NamedTuple):
    """A message as the code has it."""

    error: str
    room: str
    text: str


def pages() -> dict[str, str]:
    """The one page, by its path."""
    found = sorted(set(messages(Path(milbench.__file__).parent)))
    if len(found) < LEAST_FOUND:
        raise ValueError(
            f"only {len(found)} messages were found in the code: what reads them has to follow how they are raised"
        )
    return {PATH: "\n".join(_page(found))}


def messages(package: Path) -> Iterator[Message]:
    """Every message that an error of milbench is made with in the files of `package`; those put together elsewhere are left out."""
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _tree() and node.args:
                text = " ".join(_text(node.args[0]).split())
                if sum(word != VALUE for word in text.split()) >= FEWEST_WORDS:
                    yield Message(node.func.id, room, text)


@cache
def _tree() -> Mapping[str, type[Exception]]:
    return {
        name: each
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, errors.MilbenchError)
    }


def _text(node: ast.AST) -> str:
    """The text of a constant, an f-string or a sum of them; values are dots."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return VALUE


def _page(found: list[Message]) -> Iterator[str]:
    yield "# Messages\n\nEvery mistake that milbench knows ends in one message, and exit code 2 on the command line. Paste words"
    yield f"of yours into the search box, or look here; {VALUE} stands for your own files, columns and names.\n"
    yield "This list is read from the code. A message that is put together from parts may be missing.\n"
    yield table(
        ("error in Python", "what it means"),
        [(code(name), sentence(first_paragraph(each))) for name, each in _tree().items()],
    )
    for room in sorted({each.room for each in found}):
        yield f"## {room}\n"
        yield "\n".join(f"- {plain(each.text)} ({code(each.error)})" for each in found if each.room == room) + "\n"
