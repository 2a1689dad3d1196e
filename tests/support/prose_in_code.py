"""How the prose inside Python files is found: docstrings, comments, and the strings that a user may read."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from prose import Phrase, banned


class Passage(NamedTuple):
    """A piece of prose and the line it starts on."""

    line: int
    text: str


def passages(source: str) -> list[Passage]:
    """Strings of several words and comments of a module, in the order of their lines."""
    return sorted([*_strings(ast.parse(source)), *_comments(source)])


def banned_in_code(source: str) -> list[Phrase]:
    """Banned phrases of a module's prose, each with the line of the file that it starts on."""
    return [
        Phrase(line + found.line - 1, found.found, found.instead)
        for line, text in passages(source)
        for found in banned(text)
    ]


def _strings(node: ast.AST) -> Iterator[Passage]:
    """Strings below `node`; an f-string is one, with an X where a value will stand."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
        yield Passage(node.lineno, "".join(map(str, parts)))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
        yield Passage(node.lineno, node.value)
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from _strings(child)


def _comments(source: str) -> Iterator[Passage]:
    """Comments; those on lines that follow each other are one passage."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = [(token.start[0], token.string.lstrip("# ")) for token in tokens if token.type == tokenize.COMMENT]
    for _, block in groupby(enumerate(lines), key=lambda item: item[1][0] - item[0]):
        numbers, texts = zip(*(line for _, line in block), strict=True)
        yield Passage(numbers[0], "\n".join(texts))
