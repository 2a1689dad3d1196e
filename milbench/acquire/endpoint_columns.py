"""Clinical attributes of studies -> columns of a label table, and the `tasks:` of a cohort.yaml that reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from milbench.acquire.clinical import Clinical, merged
from milbench.endpoints.endpoint import FEWEST_CLASSES
from milbench.labels.meaning import event_in, tells_nothing
from milbench.labels.spellings import UNKNOWN, score_in
from milbench.labels.stage import STAGES, stage_of

SURVIVAL = ("os", "dss", "dfs", "pfs")
"""Overall, disease-specific, disease-free and progression-free survival, as the portal's ids begin."""

GRADES = ("G1", "G2", "G3", "G4")

Column = Mapping[str, str]
"""Cell by patient; whoever is not in it has a blank one."""

Values = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Different values by attribute and patient."""

NONE: Mapping[str, Any] = MappingProxyType({})


class EndpointColumns(NamedTuple):
    """What was made of the attributes.

    Attributes
    ----------
    columns : of the label table, by name.
    tasks : of a cohort.yaml, by name.
    report : a line per endpoint, found or left out.
    """

    columns: dict[str, Column]
    tasks: dict[str, dict[str, Any]]
    report: list[str]


class Found(NamedTuple):
    """One endpoint of a study.

    Attributes
    ----------
    told : what there is of it, or why it is left out.
    odd : patients without a label or with one that is read as unknown, by reason.
    columns, task : of the label table and of cohort.yaml; empty = left out.
    """

    told: str
    odd: Mapping[str, int] = NONE
    columns: Mapping[str, Column] = NONE
    task: Mapping[str, Any] = NONE


class Words(NamedTuple):
    """An endpoint of classes or grades.

    Attributes
    ----------
    attributes : ids that studies use, the first that one has counts.
    read : what a value is called as a class; "" = no class.
    order : of grades; empty = the classes have none.
    """

    attributes: tuple[str, ...]
    read: Callable[[str], str]
    order: tuple[str, ...] = ()


WORDS: Mapping[str, Words] = {
    "subtype": Words(("SUBTYPE",), lambda value: "" if _is_gap(value) else value),
    "grade": Words(("GRADE", "TUMOR_GRADE"), lambda value: value.upper() if value.upper() in GRADES else "", GRADES),
    "stage": Words(("AJCC_PATHOLOGIC_TUMOR_STAGE", "TUMOR_STAGE_2009"), stage_of, STAGES),
}

WANTED = (
    *(f"{name.upper()}_{what}" for name in SURVIVAL for what in ("MONTHS", "STATUS")),
    *(attribute for words in WORDS.values() for attribute in words.attributes),
)
"""Ids of all attributes that are asked for."""


def endpoint_columns(studies: Sequence[Clinical], patients: Collection[str]) -> EndpointColumns:
    """Columns, tasks and report of what the studies say of `patients`, those who have slides.

    Times and words stand as the portal has them. A cell is blank if a patient's values contradict each other, or if the value
    is no number of months, tells no state, or is none of the grades and stages. All are counted.
    """
    known = merged(studies)
    values = {name: {p: own for p, own in of_all.items() if p in patients} for name, of_all in known.items()}
    made = {name: _survival(name, values) for name in SURVIVAL}
    made |= {name: _of_words(name, words, values) for name, words in WORDS.items()}
    columns = {column: cells for found in made.values() for column, cells in found.columns.items()}
    tasks = {name: dict(found.task) for name, found in made.items() if found.task}
    return EndpointColumns(columns, tasks, [_line(name, found) for name, found in made.items()])


def _is_gap(value: str) -> bool:
    return value.lower() in UNKNOWN or tells_nothing(value)


# ---- survival ----------------------------------------------------------------------------------------


def _survival(name: str, values: Values) -> Found:
    attributes = (f"{name.upper()}_MONTHS", f"{name.upper()}_STATUS")
    if missing := [attribute for attribute in attributes if attribute not in values]:
        return Found(f"left out: no study has {' or '.join(missing)}")
    months, odd_times = _times(values[attributes[0]])
    status, odd_states = _states(values[attributes[1]])
    both = [patient for patient in months if patient in status]
    usable = [patient for patient in both if (score_in(months[patient]) or 0) > 0]
    n_events = sum(event_in(status[patient], of_censoring=False) == 1 for patient in usable)
    odd = {
        "with a time of 0 or less (written, and read as unknown)": len(both) - len(usable),
        "with a time and no status": len(months) - len(both),
        "with a status and no time": len(status) - len(both),
        **odd_times,
        **odd_states,
    }
    if not n_events:
        return Found(f"left out: {len(usable)} patients, no event", odd)
    words = Counter(status[patient] for patient in usable)
    told = ", ".join(f"{word} {count}" for word, count in sorted(words.items()))
    columns = {f"{name}_months": months, f"{name}_status": status}
    task = {"kind": "survival", "time": f"{name}_months", "event": f"{name}_status", "unit": "months"}
    return Found(f"{len(usable)} patients ({told})", odd, columns, task)


def _times(values: Mapping[str, tuple[str, ...]]) -> tuple[Column, dict[str, int]]:
    """Months as the portal writes them, and how many patients have none that can be used, by reason."""
    different = {patient: {score_in(value) for value in own} for patient, own in values.items()}
    cells = {
        patient: values[patient][0]
        for patient, numbers in different.items()
        if len(numbers) == 1 and None not in numbers
    }
    contradict = sum(len(numbers) > 1 for numbers in different.values())
    return cells, {
        "whose times contradict each other (blank)": contradict,
        "whose time is no number (blank)": len(values) - len(cells) - contradict,
    }


def _states(values: Mapping[str, tuple[str, ...]]) -> tuple[Column, dict[str, int]]:
    """Status as the portal writes it, and how many patients have none that can be used, by reason."""
    different = {patient: {event_in(value, of_censoring=False) for value in own} for patient, own in values.items()}
    cells = {
        patient: values[patient][0] for patient, events in different.items() if len(events) == 1 and None not in events
    }
    contradict = sum(len(events) > 1 for events in different.values())
    return cells, {
        "whose status contradicts itself (blank)": contradict,
        "whose status tells no state (blank)": len(values) - len(cells) - contradict,
    }


# ---- classes and grades ------------------------------------------------------------------------------


def _of_words(name: str, words: Words, values: Values) -> Found:
    attribute = next((each for each in words.attributes if each in values), None)
    if attribute is None:
        return Found(f"left out: no study has {' or '.join(words.attributes)}")
    read = {patient: {words.read(value) for value in own} for patient, own in values[attribute].items()}
    cells = {patient: min(own) for patient, own in read.items() if len(own) == 1 and "" not in own}
    found = Counter(cells.values())
    odd = {
        "who contradict themselves (blank)": sum(len(own) > 1 for own in read.values()),
        **_without_class(words, [value for own in values[attribute].values() if len(own) == 1 for value in own]),
    }
    classes = [grade for grade in words.order if found[grade]] or sorted(found)
    told = (
        f"{len(cells)} patients by {attribute} ({', '.join(f'{word} {found[word]}' for word in classes) or 'no class'})"
    )
    if len(classes) < FEWEST_CLASSES - 1:
        return Found(f"left out: {told}", odd)
    return Found(told, odd, {name: cells}, _task(classes, is_ordered=bool(words.order)))


def _without_class(words: Words, values: Sequence[str]) -> dict[str, int]:
    unread = Counter(value for value in values if not words.read(value))
    most = max(unread, key=lambda value: (unread[value], value), default="")
    return {f"without a class, such as {most} (blank)": unread.total()}


def _task(classes: Sequence[str], *, is_ordered: bool) -> dict[str, Any]:
    if len(classes) < FEWEST_CLASSES:
        return {"kind": "binary"}
    return {"kind": "ordinal" if is_ordered else "multiclass", "classes": list(classes)}


def _line(name: str, found: Found) -> str:
    return f"  {name:<9} " + "; ".join(
        [found.told, *(f"{count} patients {what}" for what, count in found.odd.items() if count)]
    )
