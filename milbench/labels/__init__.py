"""Label tables: one small reader per convention, recognised by columns and reported, never guessed silently.

In: a table or folder as another tool left it. Out: one checked table (slide_id, patient_id, one column per task), and notes
on what was noticed. Open `clam.py` first, as an example of a convention; `values.py` says what a cell means.
Ids are text. A label is 0, 1 or unknown; a column of two words or numbers becomes 0 and 1, and the guess
is a finding (`meaning.py`). Tasks of other kinds are declared (`declared.py`), and `kinds.py` says who reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from milbench.errors import LabelTableError
from milbench.labels import clam, eva, pathobench, stamp, torchmil
from milbench.labels.cells import SUFFIXES, TextTable, read_table
from milbench.labels.finding import WARNING, Finding, some
from milbench.labels.meaning import key
from milbench.labels.suggestion import suggested
from milbench.labels.table import EXPECTED, PATIENT, SLIDE, LabelTable
from milbench.labels.task_findings import contradictions, one_class_tasks
from milbench.labels.values import Stated

__all__ = [
    "PATIENT",
    "SLIDE",
    "SUFFIXES",
    "LabelTable",
    "Stated",
    "contradictions",
    "one_class_tasks",
    "read_labels",
    "slide_ids",
    "suggested_tasks",
]


def read_labels(
    path: Path, tasks: Sequence[str] | None = None, *, slides: Path | None = None, stated: Stated | None = None
) -> LabelTable:
    """Slides with their labels, and notes on how the file was understood.

    Parameters
    ----------
    path : CSV, TSV or XLSX table as CLAM and M4, Patho-Bench, STAMP or kaiko-eva write it, or torchmil's folder of labels.
    tasks : columns to use; None = every column but ids and folds.
    slides : STAMP's slide table.
    stated : which cells are the positive class, which tell no label, and the kinds of tasks.

    Raises
    ------
    LabelTableError : missing file or column, two columns of one name, a line with more or fewer cells than
        the header, duplicate or blank id, a column that is neither 0 and 1 nor two words or numbers.
    """
    stated = stated or Stated()
    if path.is_dir():
        _refuse_slides(path, slides)
        return torchmil.read(path, tasks, stated)
    table = read_table(path, EXPECTED)
    try:
        labels = _read(path, table, tasks, slides, stated)
    except LabelTableError as error:
        if table.notes:  # an odd cell often comes of how the file was understood: its separator, or its sheet
            raise LabelTableError(f"{error} ({'; '.join(table.notes)}.)") from error
        raise
    return labels._replace(findings=(*labels.findings, *_words_of_no_cell(table.cells, stated)))


def _read(path: Path, table: TextTable, tasks: Sequence[str] | None, slides: Path | None, stated: Stated) -> LabelTable:
    if stamp.recognises(table.cells):
        return stamp.read(path, table, tasks, slides, stated)
    _refuse_slides(path, slides)
    if eva.recognises(table.cells):
        return eva.read(path, table, tasks, stated)
    read = pathobench.read if pathobench.recognises(table.cells) else clam.read
    return read(path, table, tasks, stated)


def _words_of_no_cell(cells: pd.DataFrame, stated: Stated) -> list[Finding]:
    """A finding on what `unknown:` names in vain: a slip there leaves a class where no label was meant."""
    if not stated.unknown:
        return []
    there = {key(cell) for column in cells for cell in set(cells[column])}
    vain = [word for word in stated.unknown if key(word) not in there]
    text = f"`unknown:` names {some([repr(word) for word in vain])}, and no cell holds that"
    return [Finding(WARNING, text, "Write the words as they stand in the table, or delete them.")] if vain else []


def slide_ids(path: Path) -> set[str]:
    """Slides that a table names, whatever its other columns hold; raises as `read_labels` for a table that cannot be read."""
    if path.is_dir():
        return set(read_labels(path).slides["slide_id"])
    cells = read_table(path, EXPECTED).cells
    if stamp.recognises(cells):
        return set(stamp.slide_ids(cells))
    if eva.recognises(cells):
        return set(eva.slide_ids(cells))
    if SLIDE not in cells:
        raise LabelTableError(f"{path}: column '{SLIDE}' is missing. {EXPECTED}; found {', '.join(cells)}.")
    return set(cells[SLIDE])


def suggested_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """What to write in `tasks:` of a cohort.yaml for a table, by task; see `suggestion.py`.

    Empty where all columns are binary, since then nothing need be said, and for torchmil's folder.
    """
    if path.is_dir():
        return {}
    cells = read_table(path, EXPECTED).cells
    of_eva = eva.NO_LABELS if eva.recognises(cells) else ()
    ids = (PATIENT, SLIDE, stamp.PATIENT, stamp.FILE, *pathobench.fold_columns(cells), *of_eva)
    names = [name for name in cells if name not in ids]
    found = suggested(cells, names)
    return {} if all(found.get(name) == {"kind": "binary"} for name in names) else found


def _refuse_slides(path: Path, slides: Path | None) -> None:
    if slides is not None:
        raise LabelTableError(
            f"{path} is not STAMP's clini table (it has no PATIENT column), so the slide table {slides} has no use. "
            "Delete `slides:`, or name the clini table in `labels:`."
        )
