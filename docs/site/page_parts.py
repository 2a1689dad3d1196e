"""Markdown that the pages made from the code are written in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

CODE = re.compile(r"(`[^`]+`)")
MARKS = re.compile(r"[\\*_<>\[\]$`]")


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; an empty one would be a fault of who made the page."""
    lines = [_line(row) for row in rows]
    if not lines:
        raise ValueError(f"the table {', '.join(heads)} has no rows: what it is made from has moved")
    return "\n".join([_line(heads), _line(["---"] * len(heads)), *lines, ""])


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def code(text: Any) -> str:
    """`text` as code, or nothing if there is none."""
    words = str(text)
    fence = "``" if "`" in words else "`"
    return f"{fence} {words} {fence}" if fence == "``" else f"`{words}`" if words else ""


def plain(text: str) -> str:
    """`text` of a help or a message, with what Markdown would read as a mark made harmless; code in it stays code."""
    return "".join(part if part.startswith("`") else MARKS.sub(r"\\\g<0>", part) for part in CODE.split(text))


def sentence(text: str) -> str:
    """`text` with a capital at its start and a stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!", ":")) else ".")
