"""Suggestion: which kind a column may be of, as lines for cohort.yaml. Nothing is decided here: the user pastes or not.

Whether a column tells events or censoring is read from its name. Its 0s and 1s look the same in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from milbench.endpoints.endpoint import FEWEST_CLASSES
from milbench.labels.meaning import key
from milbench.labels.spellings import UNKNOWN, number_in, score_in, spellings_of

MOST_GRADES = 10
"""Distinct whole numbers up to which a column is more likely one of grades than of a score."""

MOST_CLASSES = 20
"""Distinct words up to which a column is more likely one of classes than of free text."""

TIMES = {"time", "times", "day", "days", "month", "months", "mo", "mos", "year", "years", "yr", "yrs", "duration"}
EVENTS = {"event", "events", "status", "indicator", "observed"}
CENSORINGS = {"censor", "censored", "censoring", "censorship", "cens"}
OTHERS = {"survival", "followup", "follow", "up", "to", "of", "in", "the", "at"}
"""Parts of names that say nothing about which outcome it is, beside those above."""

UNITS = {
    **dict.fromkeys(("day", "days"), "days"),
    **dict.fromkeys(("month", "months", "mo", "mos"), "months"),
    **dict.fromkeys(("year", "years", "yr", "yrs"), "years"),
}

LEVELS = (
    ("negative", "low", "intermediate", "medium", "moderate", "high"),
    ("absent", "none", "mild", "moderate", "severe"),
    ("low", "lo", "med", "mid", "hi", "high"),
)
"""Words whose order everybody reads alike."""

ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5}
GRADE = re.compile(r"(?P<name>\D*?)\s*(?P<number>\d+|i{1,3}|iv|v)(?P<part>[abc]?\d?)", re.IGNORECASE)

GRADED = {
    "",
    "g",
    "grade",
    "grad",
    "stage",
    "stadium",
    "t",
    "pt",
    "n",
    "pn",
    "isup",
    "who",
    "who grade",
    "score",
    "level",
}
"""Words before the numbers of grades. Others number classes that have no order, as in CMS1 to CMS4."""


class Survival(NamedTuple):
    """Two columns that look like one survival task. `censored` tells which the second is; `unit` is "" if no name tells it."""

    task: str
    time: str
    status: str
    censored: bool
    unit: str

    def as_dict(self) -> dict[str, str]:
        """What to write of the task in cohort.yaml."""
        status = "censored" if self.censored else "event"
        return {"kind": "survival", "time": self.time, status: self.status, "unit": self.unit or "days"}


# ---- survival --------------------------------------------------------------------------------------


def survivals(columns: Sequence[str]) -> list[Survival]:
    """Pairs of columns whose names are those of a time and of its event or censoring, such as OS.time and OS."""
    status_of = {_outcome(name): name for name in columns if _is_status(name)}
    found = []
    for time in (name for name in columns if _is_time(name)):
        outcome = _outcome(time)
        plain = next((name for name in columns if name != time and tuple(_parts(name)) == outcome and outcome), None)
        if status := status_of.get(outcome) or plain:
            task = _task_name(time, status)
            found.append(Survival(task, time, status, says_censored(status), unit_of(time)))
    return found


def unit_of(name: str) -> str:
    """Unit of time that a column's name tells; "" if it tells none."""
    return next((UNITS[part] for part in _parts(name) if part in UNITS), "")


def says_censored(name: str) -> bool:
    """Whether a column's name says that its 1 means censored."""
    parts = set(_parts(name))
    return bool(parts & CENSORINGS) and not parts & EVENTS


def status_columns(columns: Iterable[str]) -> list[str]:
    """Columns whose names are those of an event or of censoring."""
    return [name for name in columns if _is_status(name)]


def _parts(name: str) -> list[str]:
    """Words of a name: OS.time, os_time, osTime -> os, time."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [part for part in re.split(r"[^a-z0-9]+", apart.casefold()) if part]


def _is_status(name: str) -> bool:
    parts = set(_parts(name))
    return bool(parts & EVENTS) or (bool(parts & CENSORINGS) and not parts & TIMES)


def _is_time(name: str) -> bool:
    parts = set(_parts(name))
    return bool(parts & TIMES) and not parts & EVENTS


def _outcome(name: str) -> tuple[str, ...]:
    """What is left of a name without its words of time, event and censoring: ("os",)."""
    return tuple(part for part in _parts(name) if part not in TIMES | EVENTS | CENSORINGS | OTHERS)


def _task_name(time: str, status: str) -> str:
    """A name for the task that is no name of a column in another sense: os of os_days and os_event."""
    return "_".join(_outcome(time)) or ("survival" if "survival" in _parts(time) else "outcome")


# ---- other kinds -----------------------------------------------------------------------------------


def other_kind(task: str, known: pd.Series, columns: Sequence[str]) -> str:
    """What to write in `tasks:` if a column that holds no two classes is a task of another kind; "" if nothing fits.

    Parameters
    ----------
    known : its cells that tell a label.
    columns : all columns of the table.
    """
    for pair in survivals(columns):
        if task in (pair.time, pair.status):
            return f"It looks like a survival time: write `tasks: {{{flow(pair.task, pair.as_dict())}, ...}}`. "
    found = kind_of(known)
    if found is None:
        return ""
    if found["kind"] != "multiclass":
        return f"If it is {MEANT[found['kind']]}, write `tasks: {{{flow(task, found)}, ...}}`. "
    ordered = {"kind": "ordinal", "classes": found["classes"]}
    return (
        f"If these are classes, write `tasks: {{{flow(task, {'kind': 'multiclass'})}, ...}}`; if they are grades, "
        f"`{{{flow(task, ordered)}}}` with the grades in their order. "
    )


MEANT = {"regression": "a score", "ordinal": "a grade"}


def kind_of(known: pd.Series) -> dict[str, Any] | None:
    """What to write of a task that holds three values or more; None if it holds fewer, or looks like free text."""
    cells = known[~known.str.lower().isin(UNKNOWN)]
    numbers = cells.map(score_in)
    if len(cells) and numbers.notna().all():
        return _kind_of_numbers(numbers)
    groups = spellings_of(cells, as_numbers=False)
    if not FEWEST_CLASSES <= len(groups) <= MOST_CLASSES or len(groups) > len(cells) / 2 > MOST_GRADES:
        return None
    words = [group[0] for group in groups]
    graded = in_order(words)
    return {"kind": "ordinal", "classes": graded} if graded else {"kind": "multiclass", "classes": sorted(words)}


def _kind_of_numbers(numbers: pd.Series) -> dict[str, Any] | None:
    distinct = sorted(set(numbers))
    if len(distinct) < FEWEST_CLASSES:
        return None
    are_grades = len(distinct) <= MOST_GRADES and all(number.is_integer() for number in distinct)
    if are_grades and distinct[-1] - distinct[0] < 2 * MOST_GRADES:
        return {"kind": "ordinal", "classes": [f"{number:g}" for number in distinct]}
    return {"kind": "regression"}


def in_order(words: Sequence[str]) -> list[str]:
    """The words as grades in their order, if they say it: G1 G2 G3, Stage I to IV, low to high; else empty."""
    for levels in LEVELS:
        if all(key(word) in levels for word in words):
            return sorted(words, key=lambda word: levels.index(key(word)))
    matches = {word: GRADE.fullmatch(word.strip()) for word in words}
    names = {key(match["name"]) for match in matches.values() if match}
    if not all(matches.values()) or len(names) != 1 or not names <= GRADED:
        return []
    return sorted(words, key=lambda word: _place(matches[word]))


def _place(match: re.Match[str] | None) -> tuple[int, str]:
    number = match["number"].casefold() if match else ""
    return (ROMAN[number] if number in ROMAN else int(number or 0), match["part"].casefold() if match else "")


def flow(task: str, said: Mapping[str, Any]) -> str:
    """One task as YAML on one line: `grade: {kind: ordinal, classes: [G1, G2, G3]}`."""
    inner = ", ".join(f"{name}: {_value(value)}" for name, value in said.items())
    return f"{plain(task)}: {{{inner}}}"


def _value(value: Any) -> str:
    return f"[{', '.join(map(plain, value))}]" if isinstance(value, list) else plain(str(value))


def plain(word: str) -> str:
    """The word as YAML reads it back as text: in quotes unless it is plain."""
    is_plain = re.fullmatch(r"[A-Za-z][\w.+/ -]*", word) and key(word) not in {
        "yes",
        "no",
        "on",
        "off",
        "true",
        "false",
        "null",
        "y",
        "n",
    }
    return word if is_plain and word == word.strip() else json.dumps(word, ensure_ascii=False)


def suggested(cells: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What to write of every task that a table seems to hold, by name; columns that are no task are left out."""
    pairs = survivals(names)
    taken = {name for pair in pairs for name in (pair.time, pair.status)}
    tasks: dict[str, dict[str, Any]] = {}
    for name in names:
        for pair in pairs:
            if pair.time == name:
                tasks[_free(pair.task, {*names, *tasks} - {pair.status})] = pair.as_dict()
        if name not in taken and (said := _said_of(cells[name])):
            tasks[name] = said
    return tasks


def _free(name: str, taken: Iterable[str]) -> str:
    return name if name not in taken else f"{name}_survival"


def _said_of(column: pd.Series) -> dict[str, Any] | None:
    known = column[~column.str.lower().isin(UNKNOWN)]
    numbers = known.map(number_in)
    are_numbers = bool(len(known)) and bool(numbers.notna().all())
    is_binary = len(known) > 0 and (
        len(spellings_of(known, as_numbers=are_numbers)) == FEWEST_CLASSES - 1 or bool(numbers.isin([0, 1]).all())
    )
    return {"kind": "binary"} if is_binary else kind_of(known)
