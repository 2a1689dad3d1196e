"""Label tables: one small reader per convention, recognised by columns and reported, never guessed silently.

In: a table or folder as another tool left it. Out: one checked table (slide_id, patient_id, one column per task), and notes
on what was noticed. Open `clam.py` first, as an example of a convention; `values.py` says what a cell means.
Ids are text. A label is 0, 1 or unknown; a column of two words or numbers becomes 0 and 1, and the guess
is a finding (`meaning.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milbench.errors import LabelTableError
from milbench.labels import clam, pathobench, stamp, torchmil
from milbench.labels.cells import SUFFIXES, read_table
from milbench.labels.finding import WARNING, Finding, some
from milbench.labels.meaning import key
from milbench.labels.table import EXPECTED, PATIENT, SLIDE, LabelTable
from milbench.labels.values import Stated

__all__ = ["PATIENT", "SLIDE", "SUFFIXES", "LabelTable", "Stated", "contradictions", "one_class_tasks", "read_labels"]


def read_labels(
    path: Path, tasks: Sequence[str] | None = None, *, slides: Path | None = None, stated: Stated | None = None
) -> LabelTable:
    """Slides with their labels, and notes on how the file was understood.

    Parameters
    ----------
    path : CSV, TSV or XLSX table as CLAM and M4, Patho-Bench or STAMP write it, or torchmil's folder of labels.
    tasks : columns to use; None = every column but ids and folds.
    slides : STAMP's slide table.
    stated : which cells are the positive class, and which tell no label.

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
    if stamp.recognises(table.cells):
        labels = stamp.read(path, table, tasks, slides, stated)
    else:
        _refuse_slides(path, slides)
        read = pathobench.read if pathobench.recognises(table.cells) else clam.read
        labels = read(path, table, tasks, stated)
    return labels._replace(findings=(*labels.findings, *_words_of_no_cell(table.cells, stated)))


def _words_of_no_cell(cells: pd.DataFrame, stated: Stated) -> list[Finding]:
    """A finding on what `unknown:` names in vain: a slip there leaves a class where no label was meant."""
    if not stated.unknown:
        return []
    there = {key(cell) for column in cells for cell in set(cells[column])}
    vain = [word for word in stated.unknown if key(word) not in there]
    text = f"`unknown:` names {some([repr(word) for word in vain])}, and no cell holds that"
    return [Finding(WARNING, text, "Write the words as they stand in the table, or delete them.")] if vain else []


def _refuse_slides(path: Path, slides: Path | None) -> None:
    if slides is not None:
        raise LabelTableError(
            f"{path} is not STAMP's clini table (it has no PATIENT column), so the slide table {slides} has no use. "
            "Delete `slides:`, or name the clini table in `labels:`."
        )


def contradictions(slides: pd.DataFrame, tasks: Sequence[str]) -> list[Finding]:
    """One finding per task whose label differs between slides of one patient, with the number of patients."""
    distinct = slides.groupby("patient_id", sort=False)[list(tasks)].nunique()
    counts = (distinct > 1).sum()
    return [
        Finding(
            WARNING,
            f"{task}: {count} patient{'s have' if count > 1 else ' has'} contradictory labels on their slides",
            "Decide on one label per patient.",
            task,
        )
        for task, count in counts.items()
        if count
    ]


def one_class_tasks(slides: pd.DataFrame, tasks: Sequence[str]) -> list[Finding]:
    """One finding per task that has one class only in the whole cohort, so that no AUROC exists."""
    return [
        Finding(
            WARNING,
            f"{task}: only one class among the known labels, it will get no AUROC",
            "Leave it out of `tasks:`.",
            task,
        )
        for task, has_two in zip(tasks, slides[list(tasks)].nunique() >= 2, strict=True)
        if not has_two
    ]
