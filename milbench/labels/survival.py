"""Survival: a column of times and one of events, or of censoring, as one signed number of days per label.

Whether 1 means an event or a censored patient is never guessed from the values: `event:` or `censored:` says it.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd

from milbench.endpoints.endpoint import DAYS, Endpoint, event_of, signed_time, time_of
from milbench.errors import LabelTableError
from milbench.labels.declared import Declared
from milbench.labels.finding import WARNING, Finding, some
from milbench.labels.meaning import event_in, key
from milbench.labels.origin import Origin, quoted
from milbench.labels.scores import numbers
from milbench.labels.spellings import number_in, spellings_of
from milbench.labels.suggestion import flow, says_censored, status_columns, unit_of
from milbench.labels.values import LabelColumn, Stated, unknown_cells

LONGEST = 100 * DAYS["years"]
"""Days that no patient is followed: the unit is another one."""
SHORTEST = DAYS["years"]
"""Days that a study of survival goes on at least. Months that are read as days end before: the longest follow-up of TCGA's 33
cohorts is 65 to 370 months, and 32 of them stay below 365."""
FEWEST = 20
"""Patients with a time from which on the longest tells something of the unit."""


class Status(NamedTuple):
    """Events [n] in {0, 1, NaN} by line, and which cells they came from, for notes."""

    event: pd.Series
    seen: str
    censored: str
    findings: tuple[Finding, ...] = ()


def survival_column(origin: Origin, cells: pd.DataFrame, task: str, stated: Stated) -> LabelColumn:
    """The labels of a survival task: days, negative if the patient was censored.

    Parameters
    ----------
    origin : its column is that of times.

    Raises
    ------
    LabelTableError : no column of events, cells that say neither, a time that is no number, or no event at all.
    """
    declared = stated.of(task)
    _refuse_incomplete(origin, cells, task, declared)
    time = numbers(origin, cells[declared.time].rename(task), stated)
    unit = _unit(origin, task, declared)
    status = _status(origin._replace(column=declared.event or declared.censored), cells, task, stated)
    days = time.values * DAYS[unit]
    findings = (
        *time.findings,
        *status.findings,
        *_unit_findings(task, declared, unit, days),
        *_too_short(origin, task, time.values, status.event),
        *_half(origin, task, time.values, status.event),
    )
    labels = pd.Series(
        signed_time(days.where(days > 0).to_numpy(), status.event.to_numpy()), index=cells.index, name=task
    )
    _refuse_no_event(origin, task, labels, status)
    return LabelColumn(labels, _notes(task, declared, unit, status, labels), findings, Endpoint("survival"))


# ---- what is declared ------------------------------------------------------------------------------


def _refuse_incomplete(origin: Origin, cells: pd.DataFrame, task: str, declared: Declared) -> None:
    """LabelTableError for a time without an event, for one column that is both, or for a column of censoring that is declared as one of events."""
    column = declared.event or declared.censored
    if not column:
        like = some(status_columns(cells), 5)
        raise LabelTableError(
            f"{origin.path}: the survival task '{task}' has times ('{declared.time}') and no column that tells whether the "
            "event was seen, so censored patients would count as dead. Name it with `event:` (1 = event seen) or with "
            f"`censored:` (1 = censored). {f'Columns whose names are like one: {like}.' if like else 'Without one, the times cannot be used.'}"
        )
    if column == declared.time:
        raise LabelTableError(
            f"{origin.path}: the survival task '{task}' takes times and events from one column, '{column}'. Name two columns."
        )
    if declared.event and says_censored(column) and not declared.event_value:
        raise LabelTableError(
            f"{origin.path}: the survival task '{task}' takes its events from the column '{column}', whose name says that 1 "
            f"means censored. If so, write `censored: {column}` in place of `event:`. If 1 means that the event was seen, "
            f"write `event: {column}` and `event_value: 1`."
        )


def _unit(origin: Origin, task: str, declared: Declared) -> str:
    """The unit of times: as declared, else as the column's name tells."""
    unit = declared.unit or unit_of(declared.time)
    if not unit:
        raise LabelTableError(
            f"{origin.path}: the name of the column '{declared.time}' does not tell the unit of the survival task '{task}'. "
            f"Write `unit:` with one of {', '.join(DAYS)}."
        )
    return unit


def _unit_findings(task: str, declared: Declared, unit: str, days: pd.Series) -> tuple[Finding, ...]:
    named = unit_of(declared.time)
    found = []
    if named and named != unit:
        what = f"{task}: `unit: {unit}` is declared, and the column is called '{declared.time}'"
        found.append(Finding(WARNING, what, f"If the times are {named}, write `unit: {named}`.", task))
    if days.max() > LONGEST:
        what = f"{task}: the longest time is {days.max() / DAYS['years']:,.0f} years, if times are {unit}"
        found.append(Finding(WARNING, what, "Correct `unit:`, or the table.", task))
    if days.max() < SHORTEST and days.notna().sum() >= FEWEST:
        what = f"{task}: nobody is followed for longer than {days.max():,.0f} days, if times are {unit}"
        found.append(Finding(WARNING, what, f"If times are in a longer unit than {unit}, correct `unit:`.", task))
    return tuple(found)


# ---- events ----------------------------------------------------------------------------------------


def _status(origin: Origin, cells: pd.DataFrame, task: str, stated: Stated) -> Status:
    """Whether each patient's event was seen."""
    column, declared = cells[origin.column], stated.of(task)
    is_unknown = unknown_cells(column, stated) & ~column.map(lambda cell: _is_one_of(cell, declared.event_value))
    known = column[~is_unknown]
    if declared.event_value:
        return _status_as_stated(origin, column, known, task, declared)
    told = {cell: event_in(cell, of_censoring=bool(declared.censored)) for cell in set(known)}
    odd = known[known.map(told.get).isna()]
    if len(odd):
        _refuse_status(origin, odd, known, task, declared)
    sides = {value: " or ".join(sorted(cell for cell, event in told.items() if event == value)) for value in (0, 1)}
    return Status(column.where(~is_unknown).map(told.get, na_action="ignore").astype(float), sides[1], sides[0])


def _is_one_of(cell: str, values: tuple[str, ...]) -> bool:
    number = number_in(cell)
    return any(key(cell) == key(value) or (number is not None and number == number_in(value)) for value in values)


def _status_as_stated(origin: Origin, column: pd.Series, known: pd.Series, task: str, declared: Declared) -> Status:
    """Events where cells are those of `event_value:`; all others are censored."""
    seen = known.map(lambda cell: _is_one_of(cell, declared.event_value)).astype(bool)
    if not seen.any():
        raise LabelTableError(
            f"{origin.path}: no cell of column '{origin.column}' is {' or '.join(map(repr, declared.event_value))}, which "
            f"`event_value:` of '{task}' names; it holds {some(sorted(set(known)), 5)}. Name the cells of patients with an event."
        )
    others = Counter(known[~seen])
    findings: tuple[Finding, ...] = ()
    if len(spellings_of(known[~seen], as_numbers=False)) > 1:
        counts = ", ".join(f"'{word}' ({count})" for word, count in sorted(others.items()))
        what = f"{task}: several cells of column '{origin.column}' count as censored: {counts}"
        findings = (Finding(WARNING, what, "If one of them tells nothing, list it in `unknown:`.", task),)
    event = seen.astype(float).reindex(column.index)
    return Status(event, " or ".join(sorted(set(known[seen]))), " or ".join(sorted(others)), findings)


def _refuse_status(origin: Origin, odd: pd.Series, known: pd.Series, task: str, declared: Declared) -> None:
    counts = Counter(known)
    shown = some([f"'{word}' ({count})" for word, count in sorted(counts.items())], 6)
    status = "event" if declared.event else "censored"
    example = sorted(counts)[-1]
    others = f" List cells that tell nothing in `unknown:`, such as `unknown: {quoted([odd.iloc[0]])}`." * (
        len(counts) > 2
    )
    raise LabelTableError(
        f"{origin.path}: column '{origin.column}' holds '{odd.iloc[0]}' for {origin.at(odd.index[0])}, which does not say "
        f"whether the event was seen; it holds {shown}. Say which cells mean that it was: "
        f"`{flow(task, {'kind': 'survival', 'time': declared.time, status: origin.column, 'event_value': example})}` if '{example}' does."
        f"{others}"
    )


def _refuse_no_event(origin: Origin, task: str, labels: pd.Series, status: Status) -> None:
    known = labels.dropna()
    if known.empty or (known > 0).any():
        return
    where = f"column '{status.event.name}'"
    raise LabelTableError(
        f"{origin.path}: all {origin.counted(len(known))} with a known time of the survival task '{task}' are censored "
        f"({where} holds {status.censored}), so there is no event to learn from. If {where} tells censoring, write "
        "`censored:` in place of `event:`, or the reverse. Else leave the task out."
    )


# ---- what was found --------------------------------------------------------------------------------


def _too_short(origin: Origin, task: str, time: pd.Series, event: pd.Series) -> tuple[Finding, ...]:
    """Times of 0 and below: such a label is unknown."""
    short = time[(time <= 0) & event.notna()]
    if short.empty:
        return ()
    negative = int((short < 0).sum())
    below = f", {negative} of them below 0" if negative else ""
    what = f"{task}: {origin.counted(len(short))} ha{'ve' if len(short) > 1 else 's'} a time of 0 or less{below} ({_lines(short)}): unknown"
    fix = (
        "Correct the dates." if negative else "If the event came on the first day, write a part of a day, such as 0.5."
    )
    return (Finding(WARNING, what, fix, task),)


def _half(origin: Origin, task: str, time: pd.Series, event: pd.Series) -> tuple[Finding, ...]:
    """Labels of which one half is missing: a patient without status is not taken for censored."""
    found = []
    for lacking, there, what in ((event, time, "a time and no event"), (time, event, "an event and no time")):
        lines = there[there.notna() & lacking.isna()]
        if len(lines):
            text = f"{task}: {origin.counted(len(lines))} ha{'ve' if len(lines) > 1 else 's'} {what} ({_lines(lines)}): unknown"
            found.append(Finding(WARNING, text, "Fill in what is missing, if it is known.", task))
    return tuple(found)


def _lines(rows: pd.Series) -> str:
    names = list(map(str, rows.index))
    return f"{'file' if isinstance(rows.index[0], str) else 'line'}{'s' * (len(names) > 1)} {some(names)}"


def _notes(task: str, declared: Declared, unit: str, status: Status, labels: pd.Series) -> tuple[str, ...]:
    column, known = declared.event or declared.censored, labels.dropna().to_numpy()
    n_events = int(event_of(known).sum())
    times = f", converted to days of {DAYS[unit]:.2f} per {unit[:-1]}" if unit != "days" else ""
    how = f"'{column}' {status.seen or 'nothing'} = event, {status.censored or 'nothing'} = censored"
    if declared.censored:
        how += " (`censored:` says that the column tells censoring)"
    counts = f"{n_events} events, {len(known) - n_events} censored, {int(np.isnan(labels).sum())} unknown"
    longest = f", up to {time_of(known).max():g} days" if len(known) else ""
    return (f"{task}: survival, {counts}{longest}; {how}; '{declared.time}' in {unit}{times}",)
