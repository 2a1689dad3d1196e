"""Classes and grades: a column of words, or of few numbers, whose places among the task's classes are the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

import pandas as pd

from milbench.endpoints.endpoint import FEWEST_CLASSES, Endpoint
from milbench.errors import LabelTableError
from milbench.labels.finding import WARNING, Finding, some
from milbench.labels.meaning import key, tells_nothing
from milbench.labels.origin import Origin, quoted
from milbench.labels.spellings import number_in, spellings_of
from milbench.labels.suggestion import MOST_CLASSES, flow
from milbench.labels.values import LabelColumn, Stated, ask_about_gaps, unknown_cells, unknown_note

WORDS = {"multiclass": ("class", "classes"), "ordinal": ("grade", "grades")}

MOST_FOUND = 100
"""Classes that a table may name by itself: with more, the column holds free text or a score."""


def class_column(origin: Origin, column: pd.Series, stated: Stated) -> LabelColumn:
    """The labels of a multiclass or ordinal task: the places of classes, from 0.

    Parameters
    ----------
    column : cells; name = task, index = line numbers.

    Raises
    ------
    LabelTableError : a cell is none of the classes, the order of grades is not known, or there are fewer than three.
    """
    task = str(column.name)
    declared = stated.of(task)
    is_unknown = unknown_cells(column, stated) & column.map(_places(column, declared.classes)).isna()
    known = column[~is_unknown]
    classes = declared.classes or _found(origin, known, declared.kind)
    _refuse_strangers(origin, known, classes, declared.kind)
    _refuse_few(origin, task, classes, declared.kind)
    places = column.where(~is_unknown).map(_places(known, classes), na_action="ignore").astype(float)
    absent = [name for place, name in enumerate(classes) if not (places == place).any()]
    notes = (
        _note(task, known, classes, declared.kind, found=not declared.classes),
        *unknown_note(task, column[is_unknown]),
    )
    return LabelColumn(places, notes, _absent(task, absent, declared.kind), Endpoint(declared.kind, classes))


def _places(cells: pd.Series, classes: Sequence[str]) -> dict[str, float]:
    """Place among the classes of every different cell that is one."""
    found = {cell: _place(cell, classes) for cell in set(cells)}
    return {cell: float(place) for cell, place in found.items() if place is not None}


def _place(cell: str, classes: Sequence[str]) -> int | None:
    """Place of a cell among the classes, whatever its case and blanks, or as the same number."""
    number = number_in(cell)
    for place, name in enumerate(classes):
        if cell == name or key(cell) == key(name) or (number is not None and number == number_in(name)):
            return place
    return None


def _found(origin: Origin, known: pd.Series, kind: str) -> tuple[str, ...]:
    """The classes that a table holds: numbers in their order, words sorted. Grades that are words have no order yet."""
    are_numbers = len(known) > 0 and bool(known.map(number_in).notna().all())
    groups = spellings_of(known, as_numbers=are_numbers)
    ask_about_gaps(origin, known, groups)
    counts = Counter(known)
    classes = [max(group, key=lambda word: counts[word]) for group in groups]
    if len(classes) > (MOST_CLASSES if are_numbers else MOST_FOUND):
        what = "numbers" if are_numbers else "words"
        advice = "If it is a score, write `kind: regression`. Else name" if are_numbers else "Name"
        raise LabelTableError(
            f"{origin.path}: column '{origin.column}' holds {len(classes)} different {what} ({some(classes, 5)}), too many to "
            f"be {WORDS[kind][1]} by themselves. {advice} the {WORDS[kind][1]} with `classes:`, or leave the task out."
        )
    if kind == "ordinal" and not are_numbers and classes:
        raise LabelTableError(
            f"{origin.path}: column '{origin.column}' holds the words {some(sorted(classes), 10)}, and words have no order by "
            f"themselves. Write the grades from the lowest to the highest: "
            f"`{flow(str(known.name), {'kind': 'ordinal', 'classes': sorted(classes)})}`, in the right order."
        )
    return tuple(classes if are_numbers else sorted(classes))


def _refuse_strangers(origin: Origin, known: pd.Series, classes: Sequence[str], kind: str) -> None:
    """LabelTableError for the first cell that is none of the classes, with the nearest one."""
    odd = known[known.map(_places(known, classes)).isna()]
    if odd.empty:
        return
    counts = Counter(odd)
    word = odd.iloc[0]
    near = get_close_matches(word, classes, n=1, cutoff=0.4)
    others = f" Others: {some([f'{other!r} ({n})' for other, n in counts.items() if other != word], 5)}." * (
        len(counts) > 1
    )
    gap = (
        tells_nothing(word)
        and f"If nobody knows these labels, write `unknown: {quoted(w for w in counts if tells_nothing(w))}`. "
    )
    raise LabelTableError(
        f"{origin.path}: column '{origin.column}' holds '{word}' for {origin.counted(counts[word])} (the first is {origin.at(odd.index[0])}), "
        f"which is none of the {WORDS[kind][1]} {', '.join(classes)}.{others} "
        + (f"The nearest is '{near[0]}'. " if near else "")
        + (
            gap
            or f"Correct the cells, add the {WORDS[kind][0]} in its place to `classes:`, or list the word in `unknown:`."
        )
    )


def _refuse_few(origin: Origin, task: str, classes: Sequence[str], kind: str) -> None:
    if len(classes) >= FEWEST_CLASSES:
        return
    if len(classes) == FEWEST_CLASSES - 1:
        advice = f"Two are a binary task: write `{task}: binary`, and `positive: {{{task}: {classes[1]}}}` for the class that is 1."
    else:
        advice = "Leave the task out."
    raise LabelTableError(
        f"{origin.path}: column '{origin.column}' is declared {kind} and has {len(classes)} "
        f"{WORDS[kind][len(classes) != 1]} ({', '.join(classes) or 'no cell tells one'}); expected three or more. {advice}"
    )


def _note(task: str, known: pd.Series, classes: Sequence[str], kind: str, *, found: bool) -> str:
    counts = Counter(known.map(_places(known, classes)))
    shown = ", ".join(f"{name} {counts[place]}" for place, name in enumerate(classes))
    whence = (
        " (in the order of the numbers)"
        if found and kind == "ordinal"
        else " (as the table holds them)"
        if found
        else ""
    )
    return f"{task}: {kind}, {WORDS[kind][1]} {shown}{whence}"


def _absent(task: str, absent: Sequence[str], kind: str) -> tuple[Finding, ...]:
    if not absent:
        return ()
    what = (
        f"{task}: nobody has the {WORDS[kind][len(absent) != 1]} {some(absent, 5)}, so no model can learn to predict it"
    )
    return (Finding(WARNING, what, "Leave it out of `classes:`, or check how the table spells it.", task),)
