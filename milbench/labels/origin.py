"""Origin: where the cells of a task stand, for messages that name file, column, line and slide."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Origin(NamedTuple):
    """Where the cells of a task stand.

    Attributes
    ----------
    path : of the table.
    column : of the table; "" = the table has no columns.
    ids : whose cells these are, by line; or by file, where each has one of its own.
    what : "slide" or "patient".
    columns : all columns of the table; of thousands of tasks each would copy a list.
    """

    path: Path
    column: str
    ids: pd.Series
    what: str
    columns: Iterable[str] = ()

    def at(self, line: object) -> str:
        """Whose cell a line holds, and which line that is: "slide s1 (line 2)"."""
        return f"{self.what} {self.ids[line]} ({'file' if isinstance(line, str) else 'line'} {line})"

    def counted(self, number: int) -> str:
        """ "1 slide", "2 slides"."""
        return f"{number} {self.what}{'s' * (number != 1)}"

    def holds(self, odd: pd.Series) -> str:
        """ "labels.csv: column 'A' holds 'x' for slide s1 (line 2)", of the first odd cell, and how many others there are."""
        line = odd.index[0]
        others = len(odd) - 1
        more = f" and {others} more odd cell{'s' * (others != 1)}" if others else ""
        return f"{self.path}: column '{self.column}' holds '{odd[line]}' for {self.at(line)}{more}"


def quoted(words: Iterable[str]) -> str:
    """The words as a list that YAML reads."""
    return json.dumps(list(words), ensure_ascii=False)


def word_counts(words: Iterable[str]) -> str:
    """ "3 '?', 1 blank"."""
    counts = Counter(words)
    return ", ".join(f"{count} '{word}'" if word else f"{count} blank" for word, count in counts.items())
