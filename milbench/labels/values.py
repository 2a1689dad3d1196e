"""Label column in {0, 1, NaN} from its text: 0 and 1, two numbers or two words. Whatever is guessed is a finding."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from milbench.endpoints.endpoint import BINARY, Endpoint
from milbench.errors import LabelTableError, unknown_name
from milbench.labels.declared import BINARY_TASK, Declared
from milbench.labels.finding import WARNING, Finding, some
from milbench.labels.meaning import is_listed_pair, key, negative_and_positive, tells_nothing
from milbench.labels.origin import Origin, quoted, word_counts
from milbench.labels.spellings import UNKNOWN, number_in, spellings_of
from milbench.labels.suggestion import other_kind

PLAIN = {"0": 0.0, "1": 1.0, "": float("nan")}
"""The cells of most columns: nothing is to be guessed, and a table may have thousands of them."""

IF_RIGHT = "If that is right, write"
"""How the advice on a guess begins. A run stores guesses as text, and `guessed_classes` finds them by it."""


@dataclass(frozen=True)
class Stated:
    """What the user says of a table's cells.

    Attributes
    ----------
    positive : by task, the cell that is class 1.
    unknown : cells that tell no label.
    declared : by task, its kind and columns; a task that is not listed is binary, and its column has its name.
    """

    positive: Mapping[str, str] = field(default_factory=dict)
    unknown: Sequence[str] = ()
    declared: Mapping[str, Declared] = field(default_factory=dict)

    def of(self, task: str) -> Declared:
        """What is said of the task."""
        return self.declared.get(task, BINARY_TASK)


class LabelColumn(NamedTuple):
    """One task.

    Attributes
    ----------
    values : float Series; NaN = unknown. A binary label is 0 or 1.
    notes : which labels are unknown, and what was stated of the classes.
    findings : how cells became classes where that was guessed, and what may be wrong with them.
    endpoint : what the task asks.
    """

    values: pd.Series
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    endpoint: Endpoint = BINARY


class Classes(NamedTuple):
    """The two classes of a column, each as its spellings, and the reason for their order; empty = it was stated."""

    negative: tuple[str, ...]
    positive: tuple[str, ...]
    why: str


def label_column(origin: Origin, column: pd.Series, stated: Stated | None = None) -> LabelColumn:
    """The labels of one column of text for a binary task.

    Parameters
    ----------
    column : cells; name = task, index = line numbers.
    stated : what the user says of the cells.

    Raises
    ------
    LabelTableError : the column holds neither 0 and 1 nor two numbers or words, or a word such as "Not Reported".
    """
    stated = stated or Stated()
    words = set(column)
    if str(column.name) not in stated.positive and not stated.unknown and words <= PLAIN.keys():
        values = pd.Series([PLAIN[cell] for cell in column], index=column.index, name=column.name)
        return LabelColumn(values, unknown_note(str(column.name), column[column == ""]) if "" in words else ())
    is_unknown = unknown_cells(column, stated)
    known = column[~is_unknown]
    notes = unknown_note(str(column.name), column[is_unknown])
    if str(column.name) not in stated.positive and known.map(number_in).isin([0, 1]).all():
        return LabelColumn(column.where(~is_unknown).map(number_in, na_action="ignore").astype(float), notes)
    classes = _two_classes(origin, known, stated.positive.get(str(column.name)))
    number = {**dict.fromkeys(classes.negative, 0.0), **dict.fromkeys(classes.positive, 1.0)}
    values = column.where(~is_unknown).map(number, na_action="ignore").astype(float)
    if not classes.why:
        return LabelColumn(values, (*notes, f"{_counted(known, classes, origin)}, as `positive:` says"))
    return LabelColumn(values, notes, (_guess(known, classes, origin),))


def unknown_cells(column: pd.Series, stated: Stated) -> pd.Series:
    """Whether each cell tells no label: by itself, or because the user says so."""
    return column.str.lower().isin(UNKNOWN) | column.map(key).isin([key(word) for word in stated.unknown])


def _two_classes(origin: Origin, known: pd.Series, positive: str | None) -> Classes:
    """The two values of a column, each with its spellings.

    A 0 or 1 beside another value is refused: it is a typing mistake more often than a class.
    """
    numbers = known.map(number_in)
    are_numbers = bool(numbers.notna().all())
    spellings = spellings_of(known, as_numbers=are_numbers)
    groups = sorted(spellings) if not are_numbers else spellings
    ask_about_gaps(origin, known, groups, () if positive is None else (positive,))
    odd = known[~numbers.isin([0, 1])]
    if len(groups) != 2 or (positive is None and len(odd) < len(known)):
        _refuse(origin, odd if len(odd) else known, known)
    first, second = groups
    if positive is not None:
        return _as_stated(origin, str(known.name), (first, second), positive)
    if are_numbers:
        return Classes(first, second, "in the order of the numbers")
    ordered = negative_and_positive((first[0], second[0]))
    if ordered is None:
        return Classes(first, second, "in alphabetical order, because the words do not tell which is positive")
    return Classes(*((first, second) if ordered[0] == first[0] else (second, first)), "by the meaning of the words")


def _as_stated(origin: Origin, task: str, groups: Sequence[tuple[str, ...]], positive: str) -> Classes:
    first, second = groups
    for negative, chosen in ((second, first), (first, second)):
        if any(key(word) == key(positive) or _same_number(word, positive) for word in chosen):
            return Classes(negative, chosen, "")
    raise LabelTableError(
        f"{origin.path}: {unknown_name(f'value of {task} in `positive:`', positive, (*first, *second))}"
    )


def _same_number(word: str, other: str) -> bool:
    number = number_in(word)
    return number is not None and number == number_in(other)


def ask_about_gaps(
    origin: Origin, known: pd.Series, groups: Sequence[tuple[str, ...]], meant: Collection[str] = ()
) -> None:
    """LabelTableError that asks about words such as "Not Reported", unless they make a pair as "-" and "+" do.

    Parameters
    ----------
    groups : spellings of each value that `known` holds.
    meant : words that the user names as classes.
    """
    if len(groups) == 2 and is_listed_pair((groups[0][0], groups[1][0])):
        return
    asked = [word for words in groups for word in words if tells_nothing(word) and word not in meant]
    if not asked:
        return
    counts = Counter(known)
    cells = known[known == asked[0]]
    told = [f"'{word}' for {counts[word]} {origin.what}s" for word in asked]
    others = [f"{word} ({counts[word]})" for words in groups for word in words if word not in asked]
    raise LabelTableError(
        f"{origin.path}: column '{origin.column}' holds {', '.join(told)} "
        f"(first in line {cells.index[0]}, {origin.what} {origin.ids[cells.index[0]]}) "
        f"beside {some(others, 5) or 'nothing else'}. "
        "Such words tell no label and are no class. If nobody knows these labels, write "
        f"`unknown: {quoted(asked)}` in cohort.yaml, or leave the cells empty."
    )


def _refuse(origin: Origin, odd: pd.Series, known: pd.Series) -> None:
    line = odd.index[0]
    raise LabelTableError(
        f"{origin.path}: column '{origin.column}' holds '{odd[line]}' for {origin.at(line)}; expected 0, 1 or "
        f"blank, or exactly two words or numbers, one per class; it holds {some(sorted(set(known)), 5)}. "
        f"{other_kind(str(known.name), known, list(origin.columns))}Name the task columns with `tasks:` if this is no label."
    )


def guessed_classes(note: str, tasks: Sequence[str]) -> str:
    """How the two values of one of `tasks` became classes, if a note that a run stored tells that this was guessed."""
    told, is_guess, _ = note.partition(f". {IF_RIGHT} ")
    text = told.removeprefix(f"{WARNING}: ")
    return text if is_guess and any(text.startswith(f"{task}: ") for task in tasks) else ""


def _guess(known: pd.Series, classes: Classes, origin: Origin) -> Finding:
    """How the two values became classes, and how to say that this is right."""
    stated = json.dumps(str(known.name), ensure_ascii=False), json.dumps(classes.positive[0], ensure_ascii=False)
    fix = f"{IF_RIGHT} `positive: {{{stated[0]}: {stated[1]}}}` in cohort.yaml; else name the other there."
    return Finding(WARNING, f"{_counted(known, classes, origin)}, {classes.why}", fix, str(known.name))


def _counted(known: pd.Series, classes: Classes, origin: Origin) -> str:
    counts = [(words, number, int(known.isin(words).sum())) for words, number in ((classes[0], 0), (classes[1], 1))]
    sides = [f"{' or '.join(words)} = {number} ({origin.counted(n)})" for words, number, n in counts]
    return f"{known.name}: {', '.join(sides)}"


def unknown_note(task: str, cells: pd.Series) -> tuple[str, ...]:
    """How many labels of the task are unknown, by what the cells hold."""
    return () if cells.empty else (f"{task}: {len(cells)} labels are unknown ({word_counts(cells)})",)
