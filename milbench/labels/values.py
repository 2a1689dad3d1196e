"""Label column in {0, 1, NaN} from its text: 0 and 1, or two words in sorted order. Every choice is a note."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from milbench.errors import LabelTableError

BINARY = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
UNKNOWN = ("", "nan", "na", "n/a", "#n/a")
"""Cells that tell no label, in any case. Not "none" or "unknown": these may be a class of their own."""


class LabelColumn(NamedTuple):
    """One task.

    Attributes
    ----------
    values : float Series in {0, 1, NaN}.
    notes : how words became numbers, and how many labels are unknown.
    """

    values: pd.Series
    notes: tuple[str, ...]


def label_column(path: Path, column: pd.Series, ids: pd.Series, what: str) -> LabelColumn:
    """The labels of one column of text.

    Parameters
    ----------
    column : cells; name = task, index = line numbers.
    ids : whose labels these are, for messages.
    what : "slide" or "patient".

    Raises
    ------
    LabelTableError : the column holds neither 0 and 1 nor exactly two words.
    """
    is_unknown = column.str.lower().isin(UNKNOWN)
    known = column[~is_unknown]
    classes = BINARY if known.isin(BINARY).all() else _two_classes(path, known, ids, what)
    notes = _unknown_note(str(column.name), column[is_unknown])
    if classes is not BINARY:
        pairs = ", ".join(f"{word} = {number:.0f}" for word, number in classes.items())
        notes = (f"{column.name}: {pairs} (sorted order)", *notes)
    return LabelColumn(column.where(~is_unknown).map(classes).astype(float), notes)


def _two_classes(path: Path, known: pd.Series, ids: pd.Series, what: str) -> dict[str, float]:
    """The two words of a column, the first in sorted order being class 0.

    A 0 or 1 beside a word is refused: it is a typing mistake more often than a class.
    """
    words = sorted(set(known))
    odd = known[~known.isin(BINARY)]
    if len(words) != 2 or len(odd) < len(known):
        line = odd.index[0]
        shown = ", ".join(words[:5]) + (", ..." if len(words) > 5 else "")
        raise LabelTableError(
            f"{path}: column '{known.name}' holds '{odd[line]}' for {what} {ids[line]} (line {line}); expected 0, 1 or "
            f"blank, or exactly two words, one per class; it holds {shown}. Name the task columns with `tasks:` if this "
            "is no label."
        )
    return {words[0]: 0.0, words[1]: 1.0}


def _unknown_note(task: str, cells: pd.Series) -> tuple[str, ...]:
    if cells.empty:
        return ()
    counts = ", ".join(f"{count} '{word}'" if word else f"{count} blank" for word, count in Counter(cells).items())
    return (f"{task}: {len(cells)} labels are unknown ({counts})",)
