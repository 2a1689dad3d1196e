"""Kinds: one reader per kind of task, from columns of text to one number per label."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from milbench.errors import LabelTableError
from milbench.labels.classes import class_column
from milbench.labels.origin import Origin
from milbench.labels.scores import score_column
from milbench.labels.survival import survival_column
from milbench.labels.values import LabelColumn, Stated, label_column


def task_column(path: Path, cells: pd.DataFrame, task: str, ids: pd.Series, what: str, stated: Stated) -> LabelColumn:
    """The labels of one task.

    Parameters
    ----------
    cells : text with the columns that the task is declared with; the index holds line numbers.
    ids : whose labels these are, for messages.
    what : "slide" or "patient".
    stated : what the user says of the task and of cells.

    Raises
    ------
    LabelTableError : a cell or a column cannot be read as the task's kind.
    """
    declared = stated.of(task)
    if task in stated.positive and declared.kind != "binary":
        raise LabelTableError(
            f"{path}: `positive:` names '{task}', which is {declared.kind}; only binary tasks have a positive class. "
            "Delete it there, or declare the task binary."
        )
    origin = Origin(path, declared.columns(task)[0], ids, what, cells)
    if declared.kind == "survival":
        return survival_column(origin, cells, task, stated)
    read = {"multiclass": class_column, "ordinal": class_column, "regression": score_column}.get(
        declared.kind, label_column
    )
    column = cells[origin.column]
    return read(origin, column if origin.column == task else column.rename(task), stated)
