"""Label column in {0, 1, NaN} from its text: 0 and 1, two numbers or two words. Whatever is guessed is a finding."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from milbench.errors import LabelTableError, unknown_name
from milbench.labels.finding import WARNING, Finding, some
from milbench.labels.meaning import is_listed_pair, key, negative_and_positive, tells_nothing

UNKNOWN = ("", "nan", "na", "n/a", "#n/a")
"""Cells that tell no label, in any case; what else may tell none is asked about."""

PLAIN = {"0": 0.0, "1": 1.0, "": float("nan")}
"""The cells of most columns: nothing is to be guessed, and a table may have thousands of them."""

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?(e[+-]?\d+)?")


@dataclass(frozen=True)
class Stated:
    """What the user says of a table's cells.

    Attributes
    ----------
    positive : by task, the cell that is class 1.
    unknown : cells that tell no label.
    """

    positive: Mapping[str, str] = field(default_factory=dict)
    unknown: Sequence[str] = ()


class LabelColumn(NamedTuple):
    """One task.

    Attributes
    ----------
    values : float Series in {0, 1, NaN}.
    notes : which labels are unknown, and what was stated of the classes.
    findings : how cells became classes where that was guessed.
    """

    values: pd.Series
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


class Classes(NamedTuple):
    """The two classes of a column, each as its spellings, and the reason for their order; empty = it was stated."""

    negative: tuple[str, ...]
    positive: tuple[str, ...]
    why: str


def label_column(path: Path, column: pd.Series, ids: pd.Series, what: str, stated: Stated | None = None) -> LabelColumn:
    """The labels of one column of text.

    Parameters
    ----------
    column : cells; name = task, index = line numbers.
    ids : whose labels these are, for messages.
    what : "slide" or "patient".
    stated : what the user says of the cells.

    Raises
    ------
    LabelTableError : the column holds neither 0 and 1 nor two numbers or words, or a word such as "Not Reported".
    """
    stated = stated or Stated()
    words = set(column)
    if str(column.name) not in stated.positive and not stated.unknown and words <= PLAIN.keys():
        values = pd.Series([PLAIN[cell] for cell in column], index=column.index, name=column.name)
        return LabelColumn(values, _unknown_note(str(column.name), column[column == ""]) if "" in words else ())
    is_unknown = column.str.lower().isin(UNKNOWN) | column.map(key).isin([key(word) for word in stated.unknown])
    known = column[~is_unknown]
    notes = _unknown_note(str(column.name), column[is_unknown])
    if str(column.name) not in stated.positive and known.map(_number).isin([0, 1]).all():
        return LabelColumn(column.where(~is_unknown).map(_number, na_action="ignore").astype(float), notes)
    classes = _two_classes(path, known, ids, what, stated.positive.get(str(column.name)))
    number = {**dict.fromkeys(classes.negative, 0.0), **dict.fromkeys(classes.positive, 1.0)}
    values = column.where(~is_unknown).map(number, na_action="ignore").astype(float)
    if not classes.why:
        return LabelColumn(values, (*notes, f"{_counted(known, classes, what)}, as `positive:` says"))
    return LabelColumn(values, notes, (_guess(known, classes, what),))


def _number(cell: str) -> float | None:
    """The number that a cell is, also with a decimal comma."""
    return float(cell.replace(",", ".")) if NUMBER.fullmatch(cell.lower()) else None


def _two_classes(path: Path, known: pd.Series, ids: pd.Series, what: str, positive: str | None) -> Classes:
    """The two values of a column, each with its spellings.

    A 0 or 1 beside another value is refused: it is a typing mistake more often than a class.
    """
    numbers = known.map(_number)
    are_numbers = bool(numbers.notna().all())
    keys = numbers if are_numbers else known.map(key)
    spellings = {value: tuple(sorted(set(known[keys == value]))) for value in sorted(set(keys))}
    groups = sorted(spellings.values()) if not are_numbers else list(spellings.values())
    _refuse_placeholders(path, known, ids, what, groups, positive)
    odd = known[~numbers.isin([0, 1])]
    if len(groups) != 2 or (positive is None and len(odd) < len(known)):
        _refuse(path, odd if len(odd) else known, ids, what, known)
    first, second = groups
    if positive is not None:
        return _as_stated(path, str(known.name), (first, second), positive)
    if are_numbers:
        return Classes(first, second, "in the order of the numbers")
    ordered = negative_and_positive((first[0], second[0]))
    if ordered is None:
        return Classes(first, second, "in alphabetical order, because the words do not tell which is positive")
    return Classes(*((first, second) if ordered[0] == first[0] else (second, first)), "by the meaning of the words")


def _as_stated(path: Path, task: str, groups: tuple[tuple[str, ...], tuple[str, ...]], positive: str) -> Classes:
    first, second = groups
    for negative, chosen in ((second, first), (first, second)):
        if any(key(word) == key(positive) or _same_number(word, positive) for word in chosen):
            return Classes(negative, chosen, "")
    raise LabelTableError(f"{path}: {unknown_name(f'value of {task} in `positive:`', positive, (*first, *second))}")


def _same_number(word: str, other: str) -> bool:
    number = _number(word)
    return number is not None and number == _number(other)


def _refuse_placeholders(
    path: Path, known: pd.Series, ids: pd.Series, what: str, groups: Sequence[tuple[str, ...]], positive: str | None
) -> None:
    """LabelTableError that asks about words such as "Not Reported", unless they make a pair as "-" and "+" do."""
    if len(groups) == 2 and is_listed_pair((groups[0][0], groups[1][0])):
        return
    asked = [word for words in groups for word in words if tells_nothing(word) and word != positive]
    if not asked:
        return
    counts = Counter(known)
    cells = known[known == asked[0]]
    told = [f"'{word}' for {counts[word]} {what}s" for word in asked]
    others = [f"{word} ({counts[word]})" for words in groups for word in words if word not in asked]
    raise LabelTableError(
        f"{path}: column '{known.name}' holds {', '.join(told)} "
        f"(first in line {cells.index[0]}, {what} {ids[cells.index[0]]}) beside {some(others, 5) or 'nothing else'}. "
        "Such words tell no label and are no class. If nobody knows these labels, write "
        f"`unknown: {json.dumps(asked, ensure_ascii=False)}` in cohort.yaml, or leave the cells empty."
    )


def _refuse(path: Path, odd: pd.Series, ids: pd.Series, what: str, known: pd.Series) -> None:
    line = odd.index[0]
    raise LabelTableError(
        f"{path}: column '{known.name}' holds '{odd[line]}' for {what} {ids[line]} (line {line}); expected 0, 1 or "
        f"blank, or exactly two words or numbers, one per class; it holds {some(sorted(set(known)), 5)}. Name the task "
        "columns with `tasks:` if this is no label."
    )


def _guess(known: pd.Series, classes: Classes, what: str) -> Finding:
    """How the two values became classes, and how to say that this is right."""
    stated = json.dumps(str(known.name), ensure_ascii=False), json.dumps(classes.positive[0], ensure_ascii=False)
    fix = f"If that is right, write `positive: {{{stated[0]}: {stated[1]}}}` in cohort.yaml; else name the other there."
    return Finding(WARNING, f"{_counted(known, classes, what)}, {classes.why}", fix, str(known.name))


def _counted(known: pd.Series, classes: Classes, what: str) -> str:
    counts = [(words, number, int(known.isin(words).sum())) for words, number in ((classes[0], 0), (classes[1], 1))]
    sides = [f"{' or '.join(words)} = {number} ({n} {what}{'s' * (n != 1)})" for words, number, n in counts]
    return f"{known.name}: {', '.join(sides)}"


def _unknown_note(task: str, cells: pd.Series) -> tuple[str, ...]:
    if cells.empty:
        return ()
    counts = ", ".join(f"{count} '{word}'" if word else f"{count} blank" for word, count in Counter(cells).items())
    return (f"{task}: {len(cells)} labels are unknown ({counts})",)
