"""Checked table of slides and labels, the same whatever convention the file followed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from milbench.endpoints.endpoint import ALL_BINARY, Endpoint
from milbench.errors import LabelTableError, UsageError, unknown_name
from milbench.labels.finding import NOTE, Finding, some
from milbench.labels.kinds import task_column
from milbench.labels.meaning import tells_nothing
from milbench.labels.values import LabelColumn, Stated
from milbench.names import folder_name, refuse_shared_folders

PATIENT, SLIDE = "case_id", "slide_id"
NO_ID = (
    "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "unknown", "#ref!", "#div/0!", "#value!", "#name?", "#null!", "#num!",
)  # fmt: skip
"""What tables hold where an id is missing, in any case; the last six are errors of a spreadsheet."""

SHORTENED = re.compile(r"\d([.,]\d+)?E[+]?\d+")
"""What Excel writes into a CSV file for a long number: 123456789012 becomes 1.23457E+11."""

OWN_COLUMNS = ("slide_id", "patient_id")
"""What the checked table calls its ids, so that no task can have the name."""

EXPECTED = f"Expected {PATIENT}, {SLIDE} and one 0/1 column per task"


class LabelTable(NamedTuple):
    """Labels of a cohort.

    Attributes
    ----------
    slides : DataFrame `slide_id`, `patient_id` (str) and one float column per task, in file order; NaN = unknown. A binary
        label is 0 or 1; `milbench.endpoints.endpoint` says how other kinds are one number.
    notes : the convention that was recognised and how text became labels, for the run's log.
    findings : what was guessed, and what may be wrong with the table.
    endpoints : what each task asks; a task that is not listed is binary.
    """

    slides: pd.DataFrame
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    endpoints: Mapping[str, Endpoint] = ALL_BINARY


def slide_table(
    path: Path, cells: pd.DataFrame, names: Sequence[str], notes: Iterable[str], stated: Stated
) -> LabelTable:
    """The labels of a table with one line per slide.

    Parameters
    ----------
    cells : text with the columns `case_id`, `slide_id` and `names`; the index holds line numbers.
    names : the task columns.

    Raises
    ------
    LabelTableError : a blank or repeated id, or a cell that is no label.
    """
    refuse_blank(path, cells, (PATIENT, SLIDE))
    refuse_missing_patients(path, cells[PATIENT])
    refuse_repeated(path, cells[SLIDE], "slide id")
    columns = label_columns(path, cells, names, cells[SLIDE], "slide", stated)
    labels = {name: column.values for name, column in zip(names, columns, strict=True)}
    slides = pd.DataFrame({"slide_id": cells[SLIDE], "patient_id": cells[PATIENT], **labels}).reset_index(drop=True)
    notes = (*notes, *(note for column in columns for note in column.notes))
    return LabelTable(slides, notes, table_findings(names, columns), endpoints_of(names, columns))


def label_columns(
    path: Path, cells: pd.DataFrame, names: Sequence[str], ids: pd.Series, what: str, stated: Stated
) -> list[LabelColumn]:
    """The labels of every task; raises as `task_column`, and where `positive:` names no column."""
    for name in stated.positive:
        if name not in cells and name not in names:
            raise LabelTableError(f"{path}: {unknown_name('task in `positive:`', name, names)}")
    return [task_column(path, cells, name, ids, what, stated) for name in names]


def endpoints_of(names: Sequence[str], columns: Iterable[LabelColumn]) -> dict[str, Endpoint]:
    """What each task asks, of those that are not binary."""
    return {
        name: column.endpoint for name, column in zip(names, columns, strict=True) if column.endpoint.kind != "binary"
    }


def table_findings(names: Sequence[str], columns: Iterable[LabelColumn]) -> tuple[Finding, ...]:
    """What was guessed of the columns, and the folders of tasks whose names no folder can have."""
    renamed = ((name, folder_name(name)) for name in names)
    folders = [
        Finding(NOTE, f"no folder can be called '{name}': results of this task lie in '{folder}'", task=name)
        for name, folder in renamed
        if folder != name
    ]
    return (*(finding for column in columns for finding in column.findings), *folders)


def task_columns(
    path: Path, columns: Sequence[str], ids: Sequence[str], tasks: Sequence[str] | None, stated: Stated
) -> list[str]:
    """The tasks: those asked for, or all columns but `ids`.

    Raises
    ------
    LabelTableError : there is none, a column of one asked for does not exist, one is called as milbench calls its ids, or
        two would share a folder of results.
    """
    candidates = [name for name in columns if name not in ids]
    for task in tasks or ():
        for name in stated.of(task).columns(task):
            if name not in candidates:
                what = "task" if name == task else f"column in task '{task}'"
                raise LabelTableError(f"{path}: {unknown_name(what, name, candidates)}")
    if not candidates:
        raise LabelTableError(f"{path}: there is no task column beside {' and '.join(ids)}. Add one 0/1 column a task.")
    chosen = list(tasks or candidates)
    _refuse_own_columns(path, chosen)
    try:
        refuse_shared_folders("tasks", chosen)
    except UsageError as error:
        raise LabelTableError(f"{path}: {error}") from error
    return chosen


def _refuse_own_columns(path: Path, tasks: Sequence[str]) -> None:
    """LabelTableError for a task that would take the place of the ids."""
    for name in set(tasks) & set(OWN_COLUMNS):
        raise LabelTableError(
            f"{path}: the column '{name}' would be a task, but milbench calls its own column of ids so. Rename or delete it, "
            "or name the columns that are labels with `tasks:`."
        )


def refuse_blank(path: Path, cells: pd.DataFrame, columns: Sequence[str]) -> None:
    """LabelTableError for the first line that lacks an id."""
    for column in columns:
        blank = cells.index[cells[column] == ""]
        if len(blank):
            raise LabelTableError(f"{path}: {column} is blank in line {blank[0]}. Fill it in or delete the line.")


def refuse_missing_patients(path: Path, patients: pd.Series) -> None:
    """LabelTableError for what is no id: slides of many patients would count as one patient's.

    Words such as NA are refused wherever they stand. Others that tell nothing, such as a dash, may be the id of one slide.
    """
    repeated = patients[patients.duplicated(keep=False)]
    no_words = patients.str.casefold().isin(NO_ID) | patients.isin(set(filter(tells_nothing, set(repeated))))
    _refuse_no_ids(
        path,
        patients[no_words],
        "Fill in the patient, or delete the line. If nobody knows the patient, write an id that occurs once, such as the slide's.",
    )
    _refuse_no_ids(
        path,
        patients[patients.str.fullmatch(SHORTENED.pattern)],
        "Excel writes long numbers so, and their last digits are lost. Make the column text before the table is saved.",
    )


def _refuse_no_ids(path: Path, patients: pd.Series, fix: str) -> None:
    if patients.empty:
        return
    words = " or ".join(f"'{word}'" for word in list(dict.fromkeys(patients))[:3])
    lines = f"line{'s' * (len(patients) != 1)} {some(list(map(str, patients.index)), 5)}"
    raise LabelTableError(f"{path}: {patients.name} is {words} in {lines}, which is no id. {fix}")


def refuse_repeated(path: Path, ids: pd.Series, what: str) -> None:
    """LabelTableError naming ids that stand in more than one line."""
    twice = list(ids[ids.duplicated()].unique())
    if twice:
        shown = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
        raise LabelTableError(
            f"{path}: {len(twice)} {what}{'s' * (len(twice) != 1)} ({shown}) in more than one line. "
            f"Keep one line per {what.removesuffix(' id')}."
        )
