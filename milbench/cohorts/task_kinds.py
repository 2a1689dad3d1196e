"""Kinds of tasks as cohort.yaml declares them: `tasks:` as a mapping from a task to its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milbench.endpoints.endpoint import DAYS, FEWEST_CLASSES, KINDS, WITH_CLASSES, Kind, Transform
from milbench.errors import UsageError, unknown_name
from milbench.labels.declared import KEYS, Declared
from milbench.labels.meaning import key as spelling
from milbench.labels.table import OWN_COLUMNS

TRANSFORMS: tuple[Transform, ...] = ("none", "log1p")
LISTS = ("classes", "event_value")


def declared_tasks(path: Path, tasks: Mapping[Any, Any]) -> dict[str, Declared]:
    """What a cohort file says of each task: `{grade: {kind: ordinal, classes: [G1, G2, G3]}}`, or `{TP53: binary}`.

    Raises
    ------
    UsageError : an unknown kind or key, or a value that the kind does not take.
    """
    for task in tasks:
        if str(task) in OWN_COLUMNS:
            raise UsageError(f"{path}: a task cannot be called '{task}', as the column of ids. Name it otherwise.")
    return {str(task): _declared(path, f"task '{task}'", said) for task, said in tasks.items()}


def cell(path: Path, key: str, value: Any) -> str:
    """A cell of the label table as `value` names it; YAML makes true and false of words such as yes, no, on and off."""
    if isinstance(value, (bool, list, dict)) or value is None:
        raise UsageError(f"{path}: {key} holds {value!r}. Write cells as they stand in the table, in quotes: 'yes'.")
    return str(value)


def _declared(path: Path, where: str, said: Any) -> Declared:
    values = {"kind": said} if isinstance(said, str) else said
    if not isinstance(values, dict) or not isinstance(values.get("kind"), str):
        raise UsageError(f"{path}: {where} is {said!r}; expected a kind ({', '.join(KINDS)}), or `{{kind: ..., ...}}`.")
    kind = _kind(path, where, values["kind"])
    for key in values:
        if key != "kind" and key not in KEYS[kind]:
            raise UsageError(f"{path}: {where} is {kind}: {unknown_name('key', str(key), ('kind', *KEYS[kind]))}")
    given = {str(key): _value(path, f"{where}: {key}", key, value) for key, value in values.items() if key != "kind"}
    declared = Declared(kind, **given)
    _refuse_impossible(path, where, declared)
    return declared


def _kind(path: Path, where: str, word: str) -> Kind:
    for kind in KINDS:
        if word == kind:
            return kind
    raise UsageError(f"{path}: {where}: {unknown_name('kind', word, KINDS)}")


def _value(path: Path, where: str, key: str, value: Any) -> Any:
    """What one key says: a list of cells, or a word."""
    if key not in LISTS:
        return cell(path, where, value)
    listed = value if isinstance(value, list) else [value]
    return tuple(cell(path, where, each) for each in listed)


def _refuse_impossible(path: Path, where: str, declared: Declared) -> None:
    if declared.transform not in TRANSFORMS:
        raise UsageError(f"{path}: {where}: {unknown_name('transform', declared.transform, TRANSFORMS)}")
    if declared.unit and declared.unit not in DAYS:
        raise UsageError(f"{path}: {where}: {unknown_name('unit', declared.unit, DAYS)}")
    if declared.kind == "survival" and not declared.time:
        raise UsageError(
            f"{path}: {where} is survival and names no column of times. Write "
            "`{kind: survival, time: os_days, event: os_event, unit: days}` with the columns of the label table."
        )
    if declared.event and declared.censored:
        raise UsageError(
            f"{path}: {where} names `event: {declared.event}` and `censored: {declared.censored}`. Keep the one that tells: "
            "`event:` if 1 means that the event was seen, `censored:` if 1 means that the patient was censored."
        )
    if declared.kind in WITH_CLASSES and declared.classes:
        _refuse_bad_classes(path, where, declared)


def _refuse_bad_classes(path: Path, where: str, declared: Declared) -> None:
    classes = declared.classes
    if len(classes) < FEWEST_CLASSES:
        raise UsageError(
            f"{path}: {where} is {declared.kind} and has {len(classes)} class{'es' * (len(classes) != 1)} "
            f"({', '.join(classes)}); expected three or more. If it has two, write `kind: binary`, and the class that is 1 in "
            "`positive:`."
        )
    spelt = [spelling(name) for name in classes]
    twice = [name for name in classes if spelt.count(spelling(name)) > 1]
    if twice:
        raise UsageError(f"{path}: {where} names the class '{twice[0]}' twice in `classes:`. Name each once.")
