"""Model header: what a model's file says of its paper, its official code and the differences, in its docstring's blocks.

A block begins with its word at the start of a line. What belongs to it is indented, an entry per line; an entry goes on in
lines that are indented further::

    paper    Ilse, Tomczak, Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018
    differs  an empty bag is refused
               (the official code returns its bias)
             a second difference
"""

from __future__ import annotations

import inspect
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milbench.models import MILModel

FIRST_LINE = re.compile(r"(paper|code|differs|kinds|map) {2,}(?=\S)")


def header_of(model: type[MILModel]) -> dict[str, list[str]]:
    """Entries of each block of the model's file, by the block's word; empty if the file has no such docstring."""
    module = sys.modules.get(model.__module__)
    return blocks_of(inspect.cleandoc(getattr(module, "__doc__", None) or ""))


def blocks_of(docstring: str) -> dict[str, list[str]]:
    r"""Entries of each block, by its word, each as one line.

    >>> blocks_of("AMIL.\n\ndiffers  any width\n         no dead layer\nmap      the attention")
    {'differs': ['any width', 'no dead layer'], 'map': ['the attention']}
    """
    found: dict[str, list[str]] = {}
    word, column = "", 0
    for line in docstring.splitlines():
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if first := FIRST_LINE.match(line):
            word, column = first[1], first.end()
            found[word] = [line[column:].strip()]
        elif not text or indent == 0:
            word = ""
        elif word and indent > column:
            found[word][-1] += f" {text}"
        elif word:
            found[word].append(text)
    return found
