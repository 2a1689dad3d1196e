"""Labels of Patho-Bench's `k=all.tsv`: `case_id, slide_id, <label>, fold_0 .. fold_{k-1}`, one line per slide.

The fold columns are no labels; they make a split (`splits:` names the same file).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from milbench.labels.cells import TextTable
from milbench.labels.table import PATIENT, SLIDE, LabelTable, slide_table, task_columns
from milbench.labels.values import Stated


def fold_columns(columns: Iterable[str]) -> list[str]:
    """`fold_0, fold_1, ...` among `columns`, in the order of their numbers."""
    return sorted((name for name in columns if re.fullmatch(r"fold_\d+", name)), key=lambda name: int(name[5:]))


def recognises(columns: Iterable[str]) -> bool:
    """Whether the columns are Patho-Bench's."""
    names = list(columns)
    return {PATIENT, SLIDE} <= set(names) and bool(fold_columns(names))


def read(path: Path, table: TextTable, tasks: Sequence[str] | None, stated: Stated) -> LabelTable:
    """The labels of a table with fold columns.

    Raises
    ------
    LabelTableError : a line cannot be used, or there is no label column.
    """
    folds = fold_columns(table.cells)
    names = task_columns(path, list(table.cells), (PATIENT, SLIDE, *folds), tasks, stated)
    note = (
        f"labels: {path.name} is a Patho-Bench table; its {len(folds)} fold columns are used where `splits:` names it"
    )
    return slide_table(path, table.cells, names, [note, *table.notes], stated)
