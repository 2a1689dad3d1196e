r"""CSV text: exact for programs, or harmless to open in a spreadsheet.

A spreadsheet computes a cell that begins with `=`, `+`, `-` or `@`, so a slide's id could run a command on the machine of
whoever opens a report. `spreadsheet_csv` guards such text with an apostrophe and writes hidden characters as escapes.
`unguarded` gives the text back. Numbers are written as they are.

>>> guarded("=1+1"), guarded("'90s"), guarded("+0.012"), guarded("TP53")
("'=1+1", "''90s", '+0.012', 'TP53')
>>> unguarded("'=1+1"), unguarded("TP53")
('=1+1', 'TP53')
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from milbench.visible import is_hidden, visible_line

if TYPE_CHECKING:
    import pandas as pd

MARK = "'"
FORMULA = "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
"""Characters that begin a formula; spreadsheets in Japanese read the wide ones alike."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
ESCAPE = re.compile(r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def exact_csv(table: pd.DataFrame, separator: str = ",") -> str:
    """The table with every name as it is, for files that milbench or another program reads back."""
    return str(table.to_csv(index=False, sep=separator, lineterminator="\n"))


def spreadsheet_csv(table: pd.DataFrame, float_format: str | None = None) -> str:
    """The table for people to open: no text in it is taken for a formula, and none hides a character."""
    safe = table.rename(columns=_guarded_cell)
    for place, kind in enumerate(safe.dtypes):
        if kind.kind not in "biuf":  # numbers need no look at every cell
            safe.isetitem(place, safe.iloc[:, place].map(_guarded_cell).astype(object))
    return str(safe.to_csv(index=False, float_format=float_format, lineterminator="\n"))


def _guarded_cell(value: Any) -> Any:
    return guarded(value) if isinstance(value, str) else value


def guarded(text: str) -> str:
    r"""The text of a cell: itself, or behind an apostrophe with hidden characters as escapes and backslashes doubled."""
    starts = text.lstrip()[:1]
    is_formula = bool(starts) and starts in FORMULA and not NUMBER.fullmatch(text)
    hides = not text.isprintable() and any(map(is_hidden, text))
    if not (is_formula or text.startswith(MARK) or hides):
        return text
    return MARK + visible_line(text.replace("\\", "\\\\"))


def unguarded(cell: str) -> str:
    """The text that `guarded` was given."""
    if not cell.startswith(MARK):
        return cell
    return ESCAPE.sub(lambda found: found[0].encode().decode("unicode_escape"), cell.removeprefix(MARK))
