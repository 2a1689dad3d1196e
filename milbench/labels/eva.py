"""Labels of kaiko-eva's `manifest.csv`: `origin, embeddings, target, split`, then metadata, one line per slide.

`target` is the task. A slide's id is the name of its file of embeddings. Patients are those of a metadata column `case_id`
or `patient_id`, if there is one. `split` is no label; it makes a split (`splits:` names the same file).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from milbench.labels.cells import TextTable
from milbench.labels.table import PATIENT, SLIDE, LabelTable, slide_table, task_columns
from milbench.labels.values import Stated

ORIGIN, FILE, TARGET, SPLIT = "origin", "embeddings", "target", "split"
PATIENTS = (PATIENT, "patient_id")
NO_LABELS = (ORIGIN, FILE, SPLIT, *PATIENTS)


def recognises(columns: Iterable[str]) -> bool:
    """Whether the columns are kaiko-eva's."""
    return {ORIGIN, FILE, TARGET} <= set(columns)


def slide_ids(cells: pd.DataFrame) -> list[str]:
    """Slide ids, in the order of the lines."""
    return [PurePosixPath(file).name.removesuffix(".pt") for file in cells[FILE]]


def read(path: Path, table: TextTable, tasks: Sequence[str] | None, stated: Stated) -> LabelTable:
    """The targets of a manifest.

    Raises
    ------
    LabelTableError : a line cannot be used.
    """
    named = next((name for name in PATIENTS if name in table.cells), None)
    slides = slide_ids(table.cells)
    cells = table.cells.assign(**{SLIDE: slides, PATIENT: slides if named is None else table.cells[named]})
    names = task_columns(path, list(cells), (*NO_LABELS, SLIDE), tasks or (TARGET,), stated)
    notes = [f"labels: {path.name} is kaiko-eva's manifest; its column `{SPLIT}` is used where `splits:` names it"]
    if named is None:
        notes.append(f"labels: {path.name} names no patients, so each slide counts as a patient of its own")
    return slide_table(path, cells, names, [*notes, *table.notes], stated)
