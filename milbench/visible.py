"""Visible text: names and messages of others, without characters that act on what shows them.

An escape character moves a terminal's cursor or changes its title, and a bidirectional control turns round the letters
that follow. Files may hold either in a slide's id, and libraries repeat it in their messages.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: controls, invisible formats such as U+202E, halves of characters, separators of lines."""

JOINERS = "\u200c\u200d"
"""Formats that Persian and Hindi are spelled with, and emoji made of."""


def is_hidden(character: str) -> bool:
    """Whether the character acts on what shows it instead of being shown."""
    return unicodedata.category(character) in HIDDEN and character not in JOINERS


def visible(text: str, kept: str = "\n") -> str:
    r"""`text` with every hidden character as its escape in Python, except those in `kept`.

    >>> visible("slide\x1b[2J")
    'slide\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(_escape(each) if is_hidden(each) and each not in kept else each for each in text)


def visible_line(text: str) -> str:
    r"""`text` as `visible` returns it, in one line: a line's end becomes `\n`."""
    return visible(text, kept="")


def shortened(text: str, most: int = 100) -> str:
    """`text`, without its middle if it is very long.

    >>> shortened("abcdefgh", most=4)
    'ab...gh'
    """
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def without_passwords(text: str) -> str:
    """`text` with every password in an address as ***: messages end up in logs and issues.

    >>> without_passwords("http://me:secret@server/x answered 404")
    'http://me:***@server/x answered 404'
    """
    return re.sub(r"(?<=://)([^/@:\s]*):[^/@\s]*@", r"\1:***@", text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
