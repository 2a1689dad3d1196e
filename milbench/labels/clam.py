"""Labels of CLAM and of the M4 repository: `case_id, slide_id, <one column per task>`, one line per slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from milbench.errors import LabelTableError
from milbench.labels.cells import TextTable
from milbench.labels.table import EXPECTED, PATIENT, SLIDE, LabelTable, slide_table, task_columns
from milbench.labels.values import Stated


def read(path: Path, table: TextTable, tasks: Sequence[str] | None, stated: Stated) -> LabelTable:
    """The labels of a table with `case_id` and `slide_id`.

    Raises
    ------
    LabelTableError : an id column is missing, or a line cannot be used.
    """
    cells = table.cells
    for column in (PATIENT, SLIDE):
        if column not in cells:
            raise LabelTableError(
                f"{path}: column '{column}' is missing. {EXPECTED} (or STAMP's PATIENT column); "
                f"found {', '.join(cells)}."
            )
    names = task_columns(path, list(cells), (PATIENT, SLIDE), tasks, stated)
    return slide_table(
        path, cells, names, [f"labels: {path.name} is a table as CLAM and M4 use it", *table.notes], stated
    )
